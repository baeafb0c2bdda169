"""schemathesis holds a real ``doogie-chat serve`` against the OpenAPI document that it hands out itself."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from tests.support.chat import ADMIN, TIME
from tests.support.chat_served import ServedChat, served_chat
from tests.support.harness import ProxyUnderTest

CONFIG = Path(__file__).parent / "schemathesis.toml"


async def schemathesis(chat: ServedChat, directory: Path) -> tuple[int, str]:
    """Its exit code and what it prints: for each fault the request, as a curl command, and the answer."""
    url = await chat.tcp_url()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli",
        "--config-file", str(CONFIG),
        "run", f"{url}/openapi.json", "--url", url, "--no-color",
        "--checks", "all",
        "--header", f"Authorization: Bearer {ADMIN}",
        cwd=directory,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_every_operation_answers_as_the_document_says_whatever_it_is_sent(
    chat_proxy: ProxyUnderTest, tmp_path: Path
) -> None:
    async with served_chat(tmp_path, chat_proxy, body_timeout_s=2, session_timeout_s=1) as chat:
        time = await chat.create("time", args=["run", "-i", TIME])
        await chat.call("POST", f"./configs/{time['id']}/start")
        code, out = await schemathesis(chat, tmp_path)
        print(out)
        assert code == 0, "see above what does not answer as /openapi.json says"
        assert chat.defects() == []
        requests = chat.logged("request")
        answers = Counter(event["status"] for event in requests)
        print(f"{len(requests)} requests: {dict(sorted(answers.items()))}")
        assert len(requests) > 400
        assert {200, 401, 404, 405, 415, 422} <= answers.keys()
        for config in (await chat.call("GET", "./configs")).json:
            chat.created.append(config["id"])
        await chat.delete_all()
