"""``doogie stdio``: own stdin and stdout joined to a server's, byte for byte, stderr to stderr.

End of own stdin. Where the server can see end-of-file (its rule says ``replay: none``), it gets it, and everything it
still says is copied until it exits. Elsewhere the server goes on: what it says is copied until it has been quiet for
``linger_s``, then the stream is detached. So ``echo '{"jsonrpc"…}' | doogie stdio time`` shows the reply, and an MCP
host that closes stdin sees this process end; the container stays until it is stopped or its lease ends.

Blocking reads and writes happen in daemon threads: stdin and stdout may be files, pipes or terminals, are shared with
other processes (so must not be made non-blocking), and a read that never returns must not keep this process alive.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from doogie_client.client import ProxyClient
from doogie_client.errors import DoogieError
from doogie_client.stdio import WRITE_CHUNK_BYTES, StdioStream
from doogie_contract.channels import Channel

_T = TypeVar("_T")


async def join(proxy: ProxyClient, name: str, *, takeover: bool, linger_s: float) -> int:
    """Join until one side ends; the exit code: the server's own, 0 when detached after own end-of-file.

    Raises:
        DoogieError: any other end.
        BrokenPipeError: nobody reads own stdout any more.
    """
    stdio = (await proxy.status(name)).stdio
    async with proxy.stdio(name, takeover=takeover) as stream:
        return await _Join(stream).run(sees_eof=stdio is not None and stdio.half_close, linger_s=linger_s)


class _Join:
    def __init__(self, stream: StdioStream) -> None:
        self._stream = stream
        self._stdin = _Thread("stdin")
        self._stdout = _Thread("stdout")
        self._writing = False
        self._quiet_since = 0.0

    async def run(self, *, sees_eof: bool, linger_s: float) -> int:
        output = asyncio.create_task(self._copy_output())
        input_ = asyncio.create_task(self._copy_input())
        try:
            await asyncio.wait([output, input_], return_when=asyncio.FIRST_COMPLETED)
            if not output.done():
                input_.result()
                if sees_eof:
                    await self._stream.close_stdin()
                    await asyncio.wait([output])
                else:
                    await self._until_quiet(output, linger_s)
            return output.result() if output.done() else 0
        finally:
            output.cancel()
            input_.cancel()
            await asyncio.gather(output, input_, return_exceptions=True)

    async def _copy_input(self) -> None:
        """Own stdin to the server's, until end-of-file. A stream that ended is for the output to explain."""
        try:
            while data := await self._stdin.run(partial(os.read, sys.stdin.fileno(), WRITE_CHUNK_BYTES)):
                await self._stream.write(data)
        except DoogieError:
            await asyncio.Event().wait()

    async def _copy_output(self) -> int:
        """The server's stdout and stderr to own ones, until it exits; its exit code, 1 where the engine has none."""
        while (frame := await self._stream.receive()) is not None:
            fd = sys.stdout.fileno() if frame.channel is Channel.STDOUT else sys.stderr.fileno()
            self._writing = True
            await self._stdout.run(partial(_write_all, fd, frame.payload))
            self._writing = False
            self._quiet_since = asyncio.get_running_loop().time()
        code = self._stream.exit.code if self._stream.exit else None
        return 1 if code is None else code

    async def _until_quiet(self, output: "asyncio.Task[int]", linger_s: float) -> None:
        """Wait until ``output`` is done, or has copied nothing for ``linger_s``."""
        now = asyncio.get_running_loop().time
        self._quiet_since = now()
        while not output.done():
            left = linger_s if self._writing else self._quiet_since + linger_s - now()
            if left <= 0:
                return
            await asyncio.wait([output], timeout=left)


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


class _Thread:
    """Runs blocking calls one after another in a daemon thread, for which a process that exits does not wait."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], _T]) -> _T:
        """The result of ``call``; cancelled, the call goes on and its result is dropped."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def finish(result: _T | None, error: OSError | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type] # without an error it is the result

        def work() -> None:
            result, error = None, None
            try:
                result = call()
            except OSError as exc:
                error = exc
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, result, error)

        self._calls.put(work)
        return await future

    def _work(self) -> None:
        while True:
            self._calls.get()()
