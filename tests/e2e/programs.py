"""Programs of others, and our own command, as subprocesses."""

import asyncio
import os
from collections.abc import Mapping
from typing import NamedTuple

TIMEOUT_S = 60.0


class Finished(NamedTuple):
    """What a program left behind."""

    code: int
    stdout: bytes
    stderr: str


async def run(*command: object, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end, with no environment but ``environment`` and the search path.

    Raises:
        TimeoutError: it was killed after ``TIMEOUT_S``.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **(environment or {})},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            stdout, stderr = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Finished(await process.wait(), stdout, stderr.decode(errors="replace"))
