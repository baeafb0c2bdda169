"""What a round trip through the proxy costs, beside the engine's own attach and ``docker run -i``: ``make bench``.

All paths talk to the same program in the same image, in turns, in one run; what counts are the ratios of their medians.
Absolute times say more about the machine than about the code. Run by hand: ``python -m bench.stdio --rounds 15``.
"""

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvloop

from doogie_client import ProxyClient, StartRequest
from tests.support.harness import ENGINE_SOCKET, TOKEN, TOOLBOX, docker, policy_document, toolbox_rule
from tests.support.served import served

MESSAGE = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}\n'
PROGRAM = "echo-lines"
TRIPS_PER_ROUND = 200
PIPELINED = 32
BIG_BYTES = 20_000_000

Trip = Callable[[bytes], Awaitable[None]]
"""Sends bytes that end in a newline, and returns when as many have come back."""


@asynccontextmanager
async def docker_run() -> AsyncIterator[Trip]:
    """``docker run -i``: the command that every other bridge starts."""
    process = await asyncio.create_subprocess_exec(
        *("docker", "--host", f"unix://{ENGINE_SOCKET}", "run", "-i", "--rm", "--network", "none", TOOLBOX, PROGRAM),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**20,
    )
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("both are pipes")

    async def trip(data: bytes) -> None:
        async with asyncio.TaskGroup() as group:
            stdin.write(data)
            group.create_task(stdin.drain())
            await stdout.readexactly(len(data))

    yield trip
    stdin.close()
    await process.wait()


@asynccontextmanager
async def raw_attach() -> AsyncIterator[Trip]:
    """The engine's attach stream over its unix socket, by hand: what nothing in front of it can beat."""
    container = docker("run", "--detach", "--interactive", "--network", "none", TOOLBOX, PROGRAM)
    reader, writer = await asyncio.open_unix_connection(ENGINE_SOCKET, limit=2**20)
    path = f"/v1.41/containers/{container}/attach?stream=1&stdin=1&stdout=1"
    writer.write(f"POST {path} HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")

    async def trip(data: bytes) -> None:
        left = len(data)
        async with asyncio.TaskGroup() as group:
            writer.write(data)
            group.create_task(writer.drain())
            while left > 0:
                header = await reader.readexactly(8)
                left -= len(await reader.readexactly(int.from_bytes(header[4:])))

    yield trip
    writer.close()
    docker("rm", "--force", container)


@asynccontextmanager
async def doogie() -> AsyncIterator[Trip]:
    """The proxy, a process of its own, and the client library's ``StdioStream`` over a unix socket."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        document = policy_document(toolbox_rule(stdio={"max_message": "64MiB", "buffer": "64MiB"}))
        own = await stack.enter_async_context(served(directory, document, engine=f"unix://{ENGINE_SOCKET}"))
        proxy = await stack.enter_async_context(ProxyClient(f"unix://{own.socket}", TOKEN))
        await proxy.start("bench", StartRequest(image=TOOLBOX, args=[PROGRAM]))
        stream = await stack.enter_async_context(proxy.stdio("bench"))

        async def trip(data: bytes) -> None:
            left = len(data)
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.write(data))
                while left > 0:
                    left -= len(await stream.read())

        yield trip
        await proxy.stop("bench")


async def measure(trip: Trip) -> dict[str, list[float]]:
    """One round of one path: seconds for each kind of work."""

    async def timed(data: bytes) -> float:
        begun = time.perf_counter()
        await trip(data)
        return time.perf_counter() - begun

    return {
        "round trip": [await timed(MESSAGE) for _ in range(TRIPS_PER_ROUND)],
        f"{PIPELINED} pipelined": [await timed(MESSAGE * PIPELINED) for _ in range(TRIPS_PER_ROUND // 4)],
        "20 MB there and back": [await timed(b"x" * (BIG_BYTES - 1) + b"\n")],
    }


async def main(rounds: int) -> None:
    """Measure in turns, and print medians and their ratios to the engine's own attach."""
    async with AsyncExitStack() as stack:
        paths = {
            "engine attach": await stack.enter_async_context(raw_attach()),
            "docker run -i": await stack.enter_async_context(docker_run()),
            "doogie": await stack.enter_async_context(doogie()),
        }
        for trip in paths.values():
            await trip(MESSAGE)  # warm
        medians: dict[str, dict[str, list[float]]] = {name: {} for name in paths}
        tails: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(rounds):
            for name, trip in paths.items():
                for work, samples in (await measure(trip)).items():
                    medians[name].setdefault(work, []).append(statistics.median(samples))
                    if work == "round trip":
                        tails[name] += samples
        print(f"| | {' | '.join(paths)} | doogie / attach (spread) | doogie / docker run |")
        print("|---|" + "---|" * (len(paths) + 2))
        for work in medians["doogie"]:
            per_round = [a / b for a, b in zip(medians["doogie"][work], medians["engine attach"][work], strict=True)]
            versus_run = [a / b for a, b in zip(medians["doogie"][work], medians["docker run -i"][work], strict=True)]
            cells = [f"{statistics.median(medians[name][work]) * 1000:.2f} ms" for name in paths]
            spread = f"{statistics.median(per_round):.2f} ({min(per_round):.2f} to {max(per_round):.2f})"
            print(f"| {work} | {' | '.join(cells)} | {spread} | {statistics.median(versus_run):.2f} |")
        p99 = {name: statistics.quantiles(samples, n=100)[98] for name, samples in tails.items()}
        cells = [f"{p99[name] * 1000:.2f} ms" for name in paths]
        ratios = f"{p99['doogie'] / p99['engine attach']:.2f} | {p99['doogie'] / p99['docker run -i']:.2f}"
        print(f"| round trip, p99 | {' | '.join(cells)} | {ratios} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    uvloop.run(main(parser.parse_args().rounds))
