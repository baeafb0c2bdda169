r"""Files of variables beside a host's document (``envFile``): ``NAME=value``, one a line. Pure.

As VS Code reads them (``src/vs/base/common/envfile.ts``): empty lines and ``#`` lines are passed over, ``export``
before a name and quotes around a value are not part of it, and within double quotes ``\n`` is a new line.
"""

import re

from doogie_client.hosts.jsonc import DocumentError

_NAME = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*", re.ASCII)
_QUOTED = re.compile(r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)')[ \t]*(?:#.*)?""")
_ESCAPE = re.compile(r"\\(.)")
_COMMENT = re.compile(r"[ \t]#")


def read_env_file(text: str, loc: str) -> dict[str, str]:
    """The variables of a file.

    Raises:
        DocumentError: a line is none; the message has its number, never its text.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name = _NAME.match(stripped)
        if name is None:
            raise DocumentError(f"{loc}, line {number}", "must be NAME=value")
        found[name["name"]] = _value(stripped[name.end() :])
    return found


def _value(text: str) -> str:
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        return _COMMENT.split(text, maxsplit=1)[0].strip()
    if quoted["single"] is not None:
        return quoted["single"]
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], quoted["double"])
