"""The commands of ``docs/chat-api.md``, run as they stand there."""

import asyncio
import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.harness import TOKEN, ProxyUnderTest

DOCUMENT = Path(__file__).parents[2] / "docs" / "chat-api.md"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_the_first_steps_end_in_a_tools_answer(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    serve, use = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "token").write_text(TOKEN)
    here = {
        "/etc/doogie-chat": str(tmp_path / "etc"),
        "/run/doogie/proxy.sock": str(chat_proxy.socket),
        "/run/doogie-token/token": str(tmp_path / "token"),
        "127.0.0.1:8080": f"127.0.0.1:{free_port()}",
    }
    for text, replacement in here.items():
        assert text in serve + use
        serve, use = serve.replace(text, replacement), use.replace(text, replacement)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (tmp_path / "log").open("wb") as log:
        # exec, so that the signal at the end reaches the app and not the shell before it.
        script = serve.replace("doogie-chat serve", "exec doogie-chat serve")
        app = await asyncio.create_subprocess_exec(
            "sh", "-ec", script, cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(60):
            while '"serving"' not in (tmp_path / "log").read_text():
                assert app.returncode is None, (tmp_path / "log").read_text()
                await asyncio.sleep(0.05)
            user = await asyncio.create_subprocess_exec(
                "sh", "-ec", use, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await user.communicate()
        assert user.returncode == 0
        assert b'"timezone":"UTC"' in out
    finally:
        with suppress(ProcessLookupError):
            app.terminate()
        assert await app.wait() == 0
        await chat_proxy.stop("time")
