"""What an attacker tries who holds the chat container's token, or who is an MCP container. One line an attack.

A test says with ``@pytest.mark.redteam(number, …)`` which of them it shows to fail; ``test_checklist.py`` holds that
none is left out, and that the table in docs/security.md is the one that ``python -m tests.redteam.checklist`` prints.
``make redteam-table`` writes it there.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTIONS = {
    1: "A. Fields of container creation",
    20: "B. Endpoints of the engine",
    30: "C. HTTP and WebSocket",
    41: "D. Identity",
    47: "E. Images",
    51: "F. Arguments and environment",
    54: "G. At run time",
}
"""Titles, by the number of the section's first attack."""

ATTACKS = {
    1: "`Privileged`",
    2: "`Binds` or `Mounts` of `/` or of the Docker socket",
    3: "a local volume whose driver options make it a bind",
    4: "overlay, block device or NFS options of a volume",
    5: "`VolumesFrom`, another's volume",
    6: "`Devices`, `DeviceRequests`, `DeviceCgroupRules`",
    7: "`CapAdd`",
    8: "pid, net, ipc, uts, user and cgroup namespaces of the host or of another container",
    9: "no seccomp or AppArmor profile, empty `MaskedPaths` and `ReadonlyPaths`",
    10: "`Runtime`, `CgroupParent`, `Sysctls`, `GroupAdd`, `OomScoreAdj`",
    11: "shared mount propagation",
    12: "ports, `ExtraHosts`, `Dns`, `Links`, MAC address",
    13: "`LogConfig` that sends logs to another host",
    14: "`RestartPolicy` always",
    15: "the same keys in another case, escaped, or with Unicode look-alikes",
    16: "duplicate keys",
    17: "fields of `HostConfig` at the top level",
    18: "trailing JSON, a byte order mark, NaN, huge numbers, depth",
    19: "other content types, charsets, encodings",
    20: "exec",
    21: "archive and export",
    22: "build, commit, load, import",
    23: "plugins, swarm, secrets, services",
    24: "update and rename",
    25: "`/session`, `/grpc`, h2c",
    26: "prune",
    27: "the engine's own attach, also over WebSocket",
    28: "inspect and logs, which would show environments",
    29: "the engine's events and image list",
    30: "paths that could be read in two ways: `//`, `..`, percent-encoding, `;`, absolute targets, version prefixes",
    31: "request smuggling: two lengths, length and chunking, bare line feeds, folded headers",
    32: "h2c upgrade, HTTP/2 preface, CONNECT, TRACE",
    33: "headers that override the method",
    34: "split, huge, slow bodies; heads that never end; what the parser refuses",
    35: "a flood of headers",
    36: "foreign `Host` and `Origin` (DNS rebinding, cross-site WebSocket)",
    37: "`X-Forwarded-For` and its like",
    38: "compression bombs, giant frames, endless fragments, ping floods",
    39: "CR, LF and ANSI sequences in what is logged",
    40: "wrong, empty, truncated and probed tokens",
    41: "a server name that is another container's short id",
    42: "ownership labels that are baked into an image, or copied",
    43: "acting on a container that was made anew in between",
    44: "another client's server",
    45: "names with path or option characters, or that collide when joined",
    46: "another client's stdio stream, by guessing what identifies it",
    47: "an image that is not listed, a moved tag, a wrong digest, another repository's digest",
    48: "`VOLUME` of an image, also of `/`",
    49: "`USER`, `ENTRYPOINT`, `HEALTHCHECK`, `STOPSIGNAL`, `ONBUILD` and labels of an image",
    50: "a storm of starts of images that are not there",
    51: "arguments past a pattern: leading dashes, partial matches, exploding patterns, NUL, newline, size, encoding",
    52: "`LD_PRELOAD`, `NODE_OPTIONS`, `PYTHONPATH`, `PATH`, proxy variables",
    53: "a planted secret, searched for in everything that comes out",
    54: "a fork bomb",
    55: "memory and swap",
    56: "burning CPU for ever",
    57: "filling tmpfs and shared memory",
    58: "floods of stdout and stderr, an endless line, death behind a stalled stream",
    59: "a storm of starts",
    60: "ignoring SIGTERM",
    61: "reaching for the metadata address, the bridge's gateway, siblings, the proxy",
    62: "a flood of stdin for a container that does not read",
    63: "an engine that hangs, restarts, disappears",
    64: "garbage, half of a UTF-8 sequence, lines of 100 MB from the container",
    65: "thousands of attaches and detaches",
}


class Defence(NamedTuple):
    """A test, and the attacks that it shows to fail."""

    attacks: tuple[int, ...]
    module: str
    test: str


def defences() -> Iterator[Defence]:
    """Every marked test of this folder, read from the sources: none has to be imported or run."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.redteam":
                    yield Defence(tuple(ast.literal_eval(arg) for arg in mark.args), path.stem, node.name)


def table() -> str:
    """The checklist with its tests, as Markdown."""
    found = list(defences())
    lines = []
    for number, attack in ATTACKS.items():
        if number in SECTIONS:
            lines += ["", f"**{SECTIONS[number]}**", "", "| | attack | fails in |", "|---|---|---|"]
        tests = [
            f"`{one.module}.py`: {one.test.removeprefix('test_').replace('_', ' ')}"
            for one in found
            if number in one.attacks
        ]
        lines.append(f"| {number} | {attack} | {'<br>'.join(tests)} |")
    return "\n".join(lines).strip() + "\n"


def split(document: str) -> tuple[str, str, str]:
    """A document's text before, in and after its section between the markers.

    Raises:
        ValueError: it has none.
    """
    before, opening, rest = document.partition("<!-- checklist -->\n")
    section, closing, after = rest.partition("<!-- /checklist -->")
    if not opening or not closing:
        raise ValueError("there is no section between <!-- checklist --> and <!-- /checklist -->")
    return before + opening, section, closing + after


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            print(table(), end="")
        case [name]:
            before, _, after = split(Path(name).read_text(encoding="utf-8"))
            Path(name).write_text(before + table() + after, encoding="utf-8")
        case _:
            sys.exit("usage: python -m tests.redteam.checklist [DOCUMENT]")
