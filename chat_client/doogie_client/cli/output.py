"""What the commands show: tables and colour on a terminal, plain text elsewhere.

Servers are hostile: what they wrote never reaches a terminal with its control characters (an escape sequence can
rewrite what is on the screen, or answer the next prompt). A pipe gets it as it is.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel

from doogie_client.errors import DoogieError, PolicyDenied, ProblemResponse, SpecConflict, StdioBusy, Unauthenticated
from doogie_contract.models import Admission, ClientPolicy, PullStatus, ServerStatus

if TYPE_CHECKING:
    from rich.table import Table

MEGABYTE = 1_000_000

# C0 but tab and newline, DEL, C1; line and paragraph separators; marks that reorder text (Unicode TR 9).
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_STATE_STYLES = {"running": "green", "exited": "red", "stopping": "yellow", "created": "yellow", "pulling": "cyan"}
SERVER_COLUMNS = ("NAME", "STATE", "SINCE", "ATTACHED", "RULE", "IMAGE")

_HINTS: dict[type[DoogieError], str] = {
    PolicyDenied: "`doogie policy` shows what you may start",
    SpecConflict: "`doogie restart` replaces what runs",
    StdioBusy: "--takeover takes the stream from who has it",
    Unauthenticated: "is the token this proxy's? See --token-file",
}


def printable(text: str) -> str:
    r"""``text`` with control and reordering characters made visible, ``\x1b`` for an escape; ``\r\n`` is a newline."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n"))


def write(text: str) -> None:
    """Text of a server to stdout: printable on a terminal, as it is into a pipe."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_json(value: BaseModel | object) -> None:
    """The one stable output: a wire model, or plain data, as indented JSON."""
    # ASCII only, so that it is printable everywhere, escape sequences included.
    plain = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    sys.stdout.write(json.dumps(plain, indent=2) + "\n")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns; on a terminal fitted to its width, with states coloured."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(terminal_table(headers, cells))
        return
    lines = [list(headers), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


def terminal_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    """Columns of printable text, with states coloured."""
    from rich.table import Table
    from rich.text import Text

    view = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        view.add_row(*(Text(cell, style=_STATE_STYLES.get(cell, "")) for cell in row))
    return view


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one pair a line; pairs without a value are left out."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        indented = value.rstrip("\n").replace("\n", "\n" + " " * (width + 2))
        sys.stdout.write(f"{name.ljust(width)}  {indented}\n")


def servers(statuses: Iterable[ServerStatus]) -> None:
    """The table of ``doogie ls``."""
    table(SERVER_COLUMNS, map(server_row, statuses))


def server_row(status: ServerStatus) -> tuple[str, ...]:
    """A server in that table."""
    attached = _yes(status.stdio is not None and status.stdio.attached)
    return status.name, status.state.value, _since(status), attached, status.rule or "", status.image or ""


def server(status: ServerStatus) -> None:
    """All about one server."""
    how = status.exit
    fields(
        [
            ("name", status.name),
            ("state", status.state.value),
            ("rule", status.rule or ""),
            ("image", status.image or ""),
            ("image digest", status.image_digest or ""),
            ("container", status.container_id or ""),
            ("created", _time(status.created_at)),
            ("started", _time(status.started_at)),
            ("expires", _time(status.expires_at)),
            ("attached", _yes(status.stdio is not None and status.stdio.attached)),
            ("pull", news(status) if status.pull else ""),
            ("problem", status.problem.detail if status.problem else ""),
            ("outdated", "yes: the policy would build it differently today" if status.outdated else ""),
            ("exit reason", how.reason.value if how else ""),
            ("exit code", "" if how is None or how.code is None else str(how.code)),
            ("exit signal", (how.signal or "") if how else ""),
            ("finished", _time(how.finished_at) if how else ""),
            ("ran for", age(how.duration_s) if how and how.duration_s is not None else ""),
            ("stderr", how.stderr_tail if how else ""),
        ]
    )


def outcome(status: ServerStatus) -> None:
    """One line: what became of a server."""
    more = news(status)
    sys.stdout.write(printable(f"{status.name} {status.state.value}" + (f" ({more})" if more else "")) + "\n")


def news(status: ServerStatus) -> str:
    """What there is to say of a server besides its state: how far its image is, how it ended, why it did not start."""
    if status.problem is not None:
        return status.problem.detail
    if status.pull is not None:
        done, total = pulled(status.pull)
        return f"{done / MEGABYTE:.1f} of {total / MEGABYTE:.1f} MB, {len(status.pull.layers)} layers"
    if (how := status.exit) is not None:
        return f"{how.reason.value}, {how.signal or ('no code' if how.code is None else f'code {how.code}')}"
    return ""


def pulled(pull: PullStatus) -> tuple[int, int]:
    """How many bytes of an image have come, and of how many, as far as the registry has said."""
    known = [layer for layer in pull.layers if layer.total_bytes is not None]
    return sum(layer.current_bytes or 0 for layer in known), sum(layer.total_bytes or 0 for layer in known)


def admission(answer: Admission) -> None:
    """What a dry run found."""
    limits = [(name.replace("_", " "), str(value)) for name, value in answer.limits]
    fields([("rule", answer.rule), ("image", answer.image), ("args", " ".join(answer.args)), *limits])


def policy(answer: ClientPolicy) -> None:
    """The rules of a client."""
    table(
        ("RULE", "IMAGES", "ARGS", "ENV", "SECRETS", "MOUNTS", "MEMORY", "CPUS", "NETWORK"),
        (
            (
                rule.name,
                " ".join([*rule.images, *rule.image_patterns]),
                "any" if rule.args.any else " ".join(rule.args.patterns),
                " ".join([*rule.env_allow, *rule.env_patterns]),
                " ".join(rule.secrets),
                " ".join(rule.mounts),
                f"{rule.limits.memory_bytes // 2**20} MiB",
                f"{rule.limits.cpus:g}",
                rule.limits.network,
            )
            for rule in answer.rules
        ),
    )


def error(exc: DoogieError) -> None:
    """One message on stderr: what is wrong, each fault with its place, the request id, what to do."""
    lines = [str(exc)]
    if isinstance(exc, ProblemResponse):
        problem = exc.problem
        lines = [f"{problem.type.rpartition(':')[2]}: {problem.title}", f"  {problem.detail}"]
        lines += [f"  {fault.loc}: {fault.msg}" for fault in problem.errors]
        lines.append(f"  request id: {problem.request_id}")
    if hint := _HINTS.get(type(exc)):
        lines.append(f"  hint: {hint}")
    sys.stderr.write("doogie: " + "\n".join(printable(line) for line in lines) + "\n")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _time(at: datetime | None) -> str:
    return "" if at is None else at.astimezone().isoformat(sep=" ", timespec="seconds")


def _since(status: ServerStatus) -> str:
    """How long it has been running, or dead."""
    at = status.exit.finished_at if status.exit else status.started_at or status.created_at
    return "" if at is None else age((datetime.now(UTC) - at).total_seconds())


def age(seconds: float) -> str:
    """``59s``, ``59m``, ``47h``, ``3d``: the largest unit that leaves a number to read."""
    if seconds < 60:
        return f"{max(0, int(seconds))}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m"
    return f"{int(seconds // 3600)}h" if seconds < 48 * 3600 else f"{int(seconds // 86400)}d"
