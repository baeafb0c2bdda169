"""The proxy under the system call rules of its systemd unit: nothing that it needs is missing."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import TOKEN, TOOLBOX, assert_nothing_left, policy_document, toolbox_rule
from tests.support.served import served

ROOT = Path(__file__).parents[2]
UNDER_UNIT = [sys.executable, "-m", "tests.support.under_unit", str(ROOT / "deploy/systemd/doogie-proxy.service")]


async def test_the_proxy_serves_reloads_and_ends_under_the_units_rules(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    async with served(
        tmp_path, policy_document(toolbox_rule()), under=UNDER_UNIT, listen=f"unix://{tmp_path}/served.sock"
    ) as proxy:
        body = {"image": TOOLBOX, "args": ["sleep"]}
        assert (await proxy.post("/v1/servers/box/start", body, token=TOKEN))["state"] == "running"
        status = Path(f"/proc/{proxy.process.pid}/status").read_text()
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nSeccomp:\t2\n" in status
        proxy.process.send_signal(signal.SIGHUP)
        await proxy.event("reloaded")
        assert (await proxy.post("/v1/servers/box/stop", {}, token=TOKEN))["state"] == "absent"
    assert_nothing_left(proxy.instance)
    assert [json.loads(line)["action"] for line in proxy.audit.read_text().splitlines()] == ["start", "stop"]


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket(socket.AF_INET)",
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "import os; os.chown('.', 1, 1)",
        "import os; os.chroot('.')",
    ],
)
def test_the_units_rules_refuse_what_the_proxy_does_not_need(code: str) -> None:
    under = [*UNDER_UNIT, sys.executable, "-c", code]
    done = subprocess.run(under, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "PermissionError: [Errno 1]" in done.stderr
