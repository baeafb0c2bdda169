"""The command ``doogie-images``."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from doogie_client.cli import output
from doogie_images import catalogue_file, options, report, words
from doogie_images.build import Built, SmokeTest, building
from doogie_images.docker import docker
from doogie_images.errors import ImagesError, NotWanted
from doogie_images.images import Image, built_images, one, read_lock, users
from doogie_images.lock import Lock
from doogie_images.progress import Progress
from doogie_images.request import Mount, Request
from doogie_images.rule import pattern
from doogie_images.settings import BuildSettings
from doogie_images.update import look

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

_T = TypeVar("_T")
_Work = Callable[[Progress], Coroutine[Any, Any, _T]]

app = typer.Typer(
    name="doogie-images",
    help="Turn npm and PyPI packages of MCP servers into images for the Doogie proxy.",
    epilog="Exit codes: 0 done; 1 not done; 2 wrong usage. Progress goes to stderr, results to stdout.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def build(
    command: options.Words,
    arg: options.Arg = None,
    env: options.Env = None,
    env_file: options.EnvFile = None,
    mount: options.Mounts = None,
    tmpfs: options.Tmpfs = None,
    memory: options.Memory = "256MiB",
    network: options.Network = "none",
    apt: options.Apt = None,
    with_package: options.With = None,
    executable: options.Executable = None,
    allow_scripts: options.AllowScripts = False,
    lock: options.LockFile = None,
    timeout: options.Timeout = 60,
    no_smoke: options.NoSmoke = False,
    keep: options.Keep = False,
    write_catalogue: options.WriteCatalogue = None,
    as_json: options.Json = False,
) -> None:
    """Build an image of a package, test it, and print its catalogue entry and policy rule.

    A command's own options follow a --, or stand with it in quotes:
    doogie-images build -- npx -y @scope/pkg --flag
    """
    with _usage_errors():
        wanted = words.read(command)
        package = wanted.package
        if with_package or executable:
            package = package.running(executable or package.executable, [*package.with_packages, *(with_package or [])])
        values = {**wanted.env, **options.variables(env, env_file)}
        request = Request(
            package=package,
            allow_scripts=allow_scripts,
            system_packages=tuple(sorted(set(apt or []))),
            args=(*wanted.args, *(arg or [])),
            env=tuple(sorted(values)),
            mounts={name: Mount.parse(text) for name, text in options.pairs("--mount", mount).items()},
            tmpfs=options.pairs("--tmpfs", tmpfs),
            memory=memory,
            network=network,
        )
        for argument in request.args:
            pattern(argument)  # an argument that no rule can admit is told before anything is built
        locked = None if lock is None else options.read_lock_file(lock, request)
        test = None if no_smoke else SmokeTest(options.complete(values, request), timeout, keep)
        settings = BuildSettings()

    async def work(progress: Progress) -> None:
        _show(await _building(settings, request, locked, test)(progress), as_json, write_catalogue)

    _run(work)


@app.command("list")
def list_images(as_json: options.Json = False) -> None:
    """List the images that were built here."""

    async def work(_progress: Progress) -> list[tuple[Image, list[str]]]:
        return [(image, await users(image)) for image in await built_images()]

    found = _run(work)
    if as_json:
        output.write_json({"images": [report.listed(image, containers) for image, containers in found]})
        return
    output.table(
        ("IMAGE", "PACKAGE", "BUILT", "SIZE", "USED BY", "ID"), (report.row(image, names) for image, names in found)
    )


@app.command()
def show(name: options.Name, as_json: options.Json = False) -> None:
    """Print an image's catalogue entry and policy rule once more."""

    async def work(_progress: Progress) -> None:
        _show(Built(one(await built_images(), name)), as_json)

    _run(work)


@app.command("lock")
def show_lock(name: options.Name) -> None:
    """Print an image's lock file, from which `build --lock` installs the same again."""

    async def work(_progress: Progress) -> str:
        return (await read_lock(one(await built_images(), name))).text

    sys.stdout.write(_run(work))


@app.command()
def update(
    name: options.Images = None,
    everything: Annotated[bool, typer.Option("--all", help="The newest image of each package.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="Newer versions also of what was built pinned.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Build without asking.")] = False,
    env: options.Env = None,
    env_file: options.EnvFile = None,
    timeout: options.Timeout = 60,
    no_smoke: options.NoSmoke = False,
    keep: options.Keep = False,
    write_catalogue: options.WriteCatalogue = None,
    as_json: options.Json = False,
) -> None:
    """Resolve anew what was asked for, show what changes, and build it if you want.

    An image that cannot be updated does not keep the others from it. Those that are replaced stay, for servers that
    run and for the rules that pin them, until you remove them.
    """
    with _usage_errors():
        if bool(name) == everything:
            raise NotWanted("name images to update, or give --all")
        given = options.variables(env, env_file)
        settings = BuildSettings()

    plans, failures = _run(lambda progress: look(settings, progress, name, latest=latest))
    for each in plans:
        sys.stderr.write(report.plan(each))
    wanted = [each for each in plans if not each.nothing]

    async def work(progress: Progress) -> None:
        for each in wanted:
            try:
                values = {**options.variables(each.request.env, None), **given}
                test = None if no_smoke else SmokeTest(options.complete(values, each.request), timeout, keep)
                built = await _building(settings, each.request, each.lock, test)(progress)
                if not as_json:
                    sys.stdout.write("---\n")
                _show(built, as_json, write_catalogue)
            except ImagesError as exc:
                failures.append(ImagesError(f"{each.image.name}: {exc}", exc.detail))

    if wanted and (yes or _confirm(len(wanted))):
        _run(work)
    for failure in failures:
        _say(failure)
    if failures:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def remove(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Images, ids or packages.")]) -> None:
    """Remove images that no container uses."""

    async def work(progress: Progress) -> None:
        images = [one(await built_images(), name) for name in names]
        for image in images:
            if containers := await users(image):
                raise NotWanted(f"{image.name} is used by {', '.join(containers)}: stop what runs from it first")
        for image in images:
            await docker("image", "rm", *image.own_names or (image.id,))
            progress.note(f"removed {image.name}, {image.id}: the catalogue and the policy should not name it any more")

    _run(work)


# --- plumbing ---------------------------------------------------------------------------------------------------


def _building(settings: BuildSettings, request: Request, locked: Lock | None, test: SmokeTest | None) -> _Work[Built]:
    async def work(progress: Progress) -> Built:
        if request.allow_scripts:
            progress.note("warning: code of the packages will run in the build container, with its network")
        if test is None:
            progress.note("warning: nobody looks whether this server starts (--no-smoke)")
        async with building(settings, progress) as builder:
            return await builder.build(request, locked or await builder.lock(request), test)

    return work


def _run(work: _Work[_T]) -> _T:
    """Run it; errors become one message and the documented exit code, and signals end it in good order."""

    async def main() -> _T:
        task = asyncio.current_task()

        def end() -> None:
            # Once: a second cancellation would cut short what the first one has cleaned up.
            if task is not None and not task.cancelling():
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, end)
        return await work(Progress())

    try:
        return asyncio.run(main())
    except ImagesError as exc:
        _say(exc)
        raise typer.Exit(EXIT_FAILED) from exc
    except asyncio.CancelledError:
        raise typer.Exit(EXIT_TERMINATED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _show(built: Built, as_json: bool, catalogue: Path | None = None) -> None:
    """Print what was built, then put it into the catalogue file.

    Raises:
        CatalogueNotWritten: it is printed, and not in the file.
    """
    output.write_json(report.as_json(built)) if as_json else sys.stdout.write(report.text(built))
    sys.stdout.flush()
    if catalogue is not None:
        written = catalogue_file.write(catalogue, report.entry(built.image))
        sys.stderr.write(f"{catalogue}: {'the entry is its first now' if written else 'has the entry already'}\n")


def _say(exc: ImagesError) -> None:
    """One message on stderr, then what the other program said, indented."""
    sys.stderr.write(f"doogie-images: {output.printable(str(exc))}\n")
    if exc.detail:
        sys.stderr.write("".join(f"  | {line}\n" for line in output.printable(exc.detail).splitlines()))


@contextmanager
def _usage_errors() -> Iterator[None]:
    """What is wrong with what was typed, as one message."""
    try:
        yield
    except ImagesError as exc:
        _usage(exc)
    except ValidationError as exc:
        # Not str(exc): it repeats values, and those of the environment may be secret.
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False))
        _usage(NotWanted("; ".join(faults)))
    except (ValueError, OSError) as exc:
        _usage(NotWanted(str(exc)))


def _usage(exc: ImagesError) -> NoReturn:
    _say(exc)
    raise typer.Exit(EXIT_USAGE)


def _confirm(count: int) -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("nothing is built: --yes builds it\n")
        return False
    return typer.confirm(f"Build {count} image{'s' if count > 1 else ''}?", err=True)


def main() -> None:
    """Entry point."""
    app()
