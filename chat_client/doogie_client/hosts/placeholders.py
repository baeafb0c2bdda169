"""What hosts and READMEs write for what only the reader knows, found in a text. Pure.

    ${VAR}  ${VAR:-default}             Claude Code         code.claude.com/docs/en/mcp
    ${env:VAR}  ${input:id}             VS Code, Cursor     code.visualstudio.com/docs/reference/variables-reference
    $VAR, where it is all of the value  Gemini CLI          geminicli.com/docs/tools/mcp-server
    <text>  your-text  YOUR_TEXT  ****  READMEs             a blank of a form, for people to fill in
    ${workspaceFolder}  ${HOME} …       VS Code, shells     a place on the machine that the text was written for

All but the last are asked for, by id: ``VAR``, ``id``, the text of the blank; where a blank is all of the value of a
variable or an option, by the name of that. This process's own environment is never looked at.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from doogie_client.hosts.paths import is_path
from doogie_client.hosts.template import Ask, Laptop, Piece, Template

MAX_ID_CHARS = 100

_NAMED = re.compile(r"(?:--?)?[A-Za-z_][A-Za-z0-9_.-]*=", re.ASCII)
_REFERENCE = re.compile(rf"\$\{{(?P<body>[^${{}}]{{1,{MAX_ID_CHARS * 10}}})\}}")
_VARIABLE = re.compile(r"(?:env:)?(?P<id>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.ASCII | re.DOTALL)
_BARE = re.compile(r"\$(?P<id>[A-Z_][A-Z0-9_]*)", re.ASCII)
_BLANK = re.compile(
    rf"<(?P<angle>[A-Za-z][^<>\n]{{0,{MAX_ID_CHARS - 1}}})>"
    r"|(?<![A-Za-z0-9])(?:(?i:your)[-_][A-Za-z0-9_-]{0,90}[A-Za-z0-9]|[A-Za-z0-9_-]{0,90}\*{3,})",
    re.ASCII,
)
_ELLIPSIS = re.compile(r"[A-Za-z0-9_-]{0,20}(?:\.{3}|…|[xX]{4,40})")
_SEPARATORS = frozenset({"pathSeparator", "/"})
_PLACES = re.compile(
    r"(?:env:)?(?:HOME|PWD|USERPROFILE|HOMEPATH|APPDATA|LOCALAPPDATA|CLAUDE_PROJECT_DIR|CLAUDE_PLUGIN_(?:ROOT|DATA))"
    r"|(?:workspaceFolder|workspaceRoot|fileWorkspaceFolder|extensionInstallFolder)(?::.*)?"
    r"|userHome|cwd|execPath|file|fileDirname"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", re.ASCII)
_SECRET_WORDS = frozenset(
    {"apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "dsn", "headers", "key"}
    | {"keys", "passphrase", "passwd", "password", "pat", "pwd", "secret", "secrets", "token", "tokens"}
)


def read(text: str, name: str = "") -> Template:
    """The pieces of a variable's value or of an argument.

    Args:
        text: as it stands in the document.
        name: of the variable or option whose value it is; empty: of none. ``--name=value`` and ``NAME=value`` have
            their own.
    """
    prefix, value = split_named(text)
    name = prefix.removesuffix("=") or name
    if bare := _BARE.fullmatch(value):
        return Template((*Template.literal(prefix).pieces, Ask(bare["id"])))
    if blank := _BLANK.fullmatch(value) or _ELLIPSIS.fullmatch(value):
        return Template((*Template.literal(prefix).pieces, Ask(name.lstrip("-") or _id(blank))))
    pieces: list[Piece] = []
    end = 0
    blanks = not is_path(value)
    for reference in _REFERENCE.finditer(text):
        pieces += [*_literal(text[end : reference.start()], blanks=blanks), _referred(reference)]
        end = reference.end()
    pieces += _literal(text[end:], blanks=blanks)
    return Template(tuple(pieces))


def split_named(text: str) -> tuple[str, str]:
    """``--name=`` or ``NAME=``, and what follows; the former is empty where a text has none."""
    named = _NAMED.match(text)
    return (named[0], text[named.end() :]) if named else ("", text)


def is_secret_name(name: str) -> bool:
    """Whether a variable, option or input of this name is likely to hold a secret: ``API_KEY``, ``--authToken``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or ("connection", "string") in pairwise(words)


def _referred(reference: re.Match[str]) -> Piece:
    body = reference["body"]
    if body in _SEPARATORS:
        return "/"
    if _PLACES.fullmatch(body):
        return Laptop(reference[0])
    if body.startswith("input:") and (input_id := body.removeprefix("input:")):
        return Ask(input_id)
    if variable := _VARIABLE.fullmatch(body):
        return Ask(variable["id"], variable["default"])
    return Ask(body)


def _literal(text: str, *, blanks: bool) -> Iterator[Piece]:
    end = 0
    for blank in _BLANK.finditer(text) if blanks else ():
        if text[end : blank.start()]:
            yield text[end : blank.start()]
        yield Ask(_id(blank))
        end = blank.end()
    if text[end:]:
        yield text[end:]


def _id(blank: re.Match[str]) -> str:
    return (blank.groupdict().get("angle") or blank[0]).strip()
