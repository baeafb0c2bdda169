"""schemathesis holds a real ``doogie-proxy serve`` against the OpenAPI document that it hands out itself."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.harness import TOKEN, policy_document, toolbox_rule
from tests.support.served import Served, served

CONFIG = Path(__file__).parent / "schemathesis.toml"
TOKENS = [TOKEN]


async def schemathesis(proxy: Served, directory: Path) -> tuple[int, str]:
    """Its exit code and what it prints: for each fault the request, as a curl command, and the answer."""
    url = await proxy.tcp_url()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli",
        "--config-file", str(CONFIG),
        "run", f"{url}/openapi.json", "--url", url, "--no-color",
        "--checks", "all",
        "--header", f"Authorization: Bearer {TOKEN}",
        cwd=directory,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.redteam(18, 19, 30, 40, 45, 51)
async def test_every_operation_answers_as_the_document_says_whatever_it_is_sent(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(args={"patterns": ["sleep"]}, max_running=2)
    document = policy_document(rule, toolbox_rule(name="missing", images=["doogie-test/never-built:1"]))
    async with served(tmp_path, document, body_timeout_s=2) as proxy:
        code, out = await schemathesis(proxy, tmp_path)
        print(out)
        stopped = await proxy.stop_all(TOKENS)
        assert code == 0, "see above what does not answer as /openapi.json says"
        assert proxy.defects() == []
        requests = [event for event in proxy.events() if event["event"] == "request"]
        answers = Counter(event["status"] for event in requests)
        print(f"{len(requests)} requests: {dict(sorted(answers.items()))}; {stopped} servers ran at the end")
        assert len(requests) > 500
        assert max(answers) < 500
        assert answers[201] > 0, "no start has succeeded"
        assert {200, 401, 403, 404, 405, 415, 422} <= answers.keys()
