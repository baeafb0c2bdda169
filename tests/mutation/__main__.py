"""Mutation testing of what decides: each mutant against the unit tests of its module, in a process of its own.

    python -m tests.mutation [module …]

``[tool.doogie.mutation]`` in pyproject.toml says which modules there are and which tests belong to each. Nothing is
written to the source tree: a process is forked for each mutant, after all that is not ours was imported, and finds the
mutant where the module would be. Mutants that cannot even be imported count for nothing. Fails when a mutant survives
that survivors.toml does not explain, when it explains one that does not survive, or when too few are killed.
"""

import argparse
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import tempfile
import time
import tomllib
import types
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
PACKAGE = "doogie_proxy"
LEAST_KILLED_PERCENT = 95.0
TIMEOUT_S = 60.0
"""For the tests of one mutant; unchanged, the slowest module's take a tenth of it. A mutant that hangs is killed."""
UNUSED = ("aiohttp", "anyio", "cacheprovider", "threadexception", "unraisableexception")
"""Plugins that take longer to load, or to collect garbage, than most mutants live."""
IMPORTED_BEFORE = (
    *("aiohttp", "jsonschema", "pydantic", "pydantic_settings", "ruamel.yaml", "structlog"),
    *("_hypothesis_pytestplugin", "hypothesis.internal.conjecture.engine", "hypothesis.strategies"),
    *("pytest_asyncio.plugin", "pytest_timeout"),
)


class Outcome(IntEnum):
    """What became of a mutant, as the exit status of its process; any other is a defect here."""

    KILLED = 10
    SURVIVED = 11
    STILLBORN = 12


class Survivor(NamedTuple):
    """A mutant as survivors.toml names it."""

    module: str
    where: str
    change: str


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant where the module would be."""

    def __init__(self, loader: "_Loader") -> None:
        self._loader = loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Nothing, for every other module."""
        if fullname != self._loader.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._loader.path, loader=self._loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, module: str, path: Path, source: str) -> None:
        super().__init__(module, str(path))
        self._source = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self._source, self.path, "exec")


def main() -> int:
    """Run the mutants of the modules that are named, or of all."""
    configured: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["doogie"][
        "mutation"
    ]
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=main.__doc__)
    parser.add_argument("module", nargs="*", help=", ".join(configured))
    chosen = parser.parse_args().module or list(configured)
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        max_examples=25,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # what fails need not be made small
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("mutation")
    for name in IMPORTED_BEFORE:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="doogie-mutation-") as compiled:
        sys.pycache_prefix, sys.dont_write_bytecode = compiled, False
        return _report(chosen, configured)


def _report(chosen: list[str], configured: dict[str, list[str]]) -> int:
    gc.collect()
    gc.freeze()
    gc.disable()
    explained = _explained()
    survivors: set[Survivor] = set()
    killed = total = 0
    for module in chosen:
        started = time.monotonic()
        outcomes = _run(module, configured[module], survivors)
        killed += outcomes.count(Outcome.KILLED)
        total += len(outcomes)
        print(_figures(module, outcomes), f"({time.monotonic() - started:.0f} s)", flush=True)
    unexplained = survivors - explained
    gone = {survivor for survivor in explained if survivor.module in chosen} - survivors
    for text, found in (("SURVIVED, unexplained", unexplained), ("explained, but KILLED", gone)):
        for survivor in sorted(found):
            print(f"\n{text}: {survivor.module} {survivor.where}\n{survivor.change}")
    percent = 100 * killed / total
    print(f"\n{killed} of {total} killed, {percent:.1f} %; {len(survivors)} survivors, {len(unexplained)} unexplained")
    return int(bool(unexplained or gone) or percent < LEAST_KILLED_PERCENT)


def _explained() -> set[Survivor]:
    entries = tomllib.loads((Path(__file__).parent / "survivors.toml").read_text())["survivor"]
    return {Survivor(entry["module"], entry["where"], entry["change"].strip()) for entry in entries}


def _run(module: str, tests: list[str], survivors: set[Survivor]) -> list[Outcome]:
    """What became of the module's mutants but for the stillborn; adds to ``survivors``."""
    path = ROOT / "proxy" / PACKAGE / f"{module}.py"
    files = [str(ROOT / "tests/unit/proxy" / f"test_{name}.py") for name in tests]
    source = path.read_text(encoding="utf-8")
    if _try(module, path, Mutant(source, "", ""), files) != Outcome.SURVIVED:
        raise SystemExit(f"the tests of {module} fail without any mutation: run pytest {' '.join(files)}")
    outcomes: list[Outcome] = []
    for mutant in mutants(source):
        outcome = _try(module, path, mutant, files)
        if outcome != Outcome.STILLBORN:
            outcomes.append(outcome)
        if outcome == Outcome.SURVIVED:
            survivors.add(Survivor(module, mutant.where, mutant.change))
            print(f"survived: {module} {mutant.where}\n{mutant.change}", flush=True)
    return outcomes


def _figures(module: str, outcomes: list[Outcome]) -> str:
    killed = outcomes.count(Outcome.KILLED)
    return f"{module:14} {len(outcomes):5} mutants {killed:5} killed {100 * killed / len(outcomes):6.1f} %"


def _try(module: str, path: Path, mutant: Mutant, files: list[str]) -> Outcome:
    pid = os.fork()
    if pid == 0:
        _be_tested(f"{PACKAGE}.{module}", path, mutant, files)
    ends = time.monotonic() + TIMEOUT_S
    while time.monotonic() < ends:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return Outcome(code) if code >= 0 else Outcome.KILLED
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return Outcome.KILLED


def _be_tested(name: str, path: Path, mutant: Mutant, files: list[str]) -> None:
    """In the child: never returns."""
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    sys.meta_path.insert(0, _Finder(_Loader(name, path, mutant.source)))
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001  # a mutant may raise anything
        os._exit(Outcome.STILLBORN)
    options = [
        "-x",
        "-q",
        "--assert=plain",
        "--noconftest",
        "--rootdir",
        str(ROOT),
        *(f"-pno:{name}" for name in UNUSED),
    ]
    try:
        for file in files:
            if pytest.main([*options, file]) != pytest.ExitCode.OK:
                os._exit(Outcome.KILLED)
    except BaseException:  # noqa: BLE001
        os._exit(Outcome.KILLED)
    os._exit(Outcome.SURVIVED)


if __name__ == "__main__":
    sys.exit(main())
