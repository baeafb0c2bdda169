"""The rows of the tables in docs/commands.md, as the option tables of the code have them."""

from doogie_client.commands.docker_options import DOCKER_RUN
from doogie_client.commands.errors import FaultKind
from doogie_client.commands.npm import BUN, NPX, PNPM, YARN
from doogie_client.commands.options import Always, ByValue, Mapped, Meaning, Option, Refused, Table
from doogie_client.commands.pypi import PIPX, UV_RUN, UVX

TABLES = {
    "`docker run`, `podman run`": DOCKER_RUN,
    "`npx`, `npm exec`": NPX,
    "`pnpm dlx`, `pnpx`": PNPM,
    "`yarn dlx`": YARN,
    "`bunx`, `bun x`": BUN,
    "`uvx`, `uv tool run`": UVX,
    "`uv run --with`": UV_RUN,
    "`pipx run`": PIPX,
}
"""By the heading of their section."""

_ORDER = ("request", "always so", "by value", "policy", "never")
_BECOMES = {FaultKind.POLICY: "policy", FaultKind.UNSUPPORTED: "never"}


def rows(table: Table) -> list[str]:
    """One row for each meaning, with all options that share it; what is part of the request comes first."""
    sharing: dict[tuple[str, str], list[Option]] = {}
    for option in table.options:
        sharing.setdefault(_meaning(option.meaning), []).append(option)
    order = sorted(sharing, key=lambda meaning: _ORDER.index(meaning[0]))
    return [f"| {', '.join(map(_spelled, sharing[meaning]))} | {meaning[0]} | {meaning[1]} |" for meaning in order]


def _spelled(option: Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.names)
    return f"{names} {option.takes}" if option.takes else names


def _meaning(meaning: Meaning) -> tuple[str, str]:
    match meaning:
        case Mapped(_, what):
            return "request", what
        case ByValue(_, what):
            return "by value", what
        case Always(why, None, _):
            return "always so", why
        case Always(why, otherwise, values) if otherwise is not None:
            becomes, words = _meaning(otherwise)
            held = "" if values == {"true"} else f"{', '.join(f'`{value}`' for value in sorted(values))}: "
            return "always so", f"{held}{why}; otherwise *{becomes}*: {words}"
        case Refused(kind, why, ask):
            return _BECOMES[kind], why if ask is None else f"{why}: `{ask('')}`"
    raise AssertionError(meaning)
