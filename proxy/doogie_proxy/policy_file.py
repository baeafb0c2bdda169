"""Reading a policy file: YAML in, ``Policy`` out, or every fault with its file and line."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from doogie_proxy.policy import Policy


class ConfigurationError(Exception):
    """A file of the operator's cannot be used; each line says which one and where, what, and what would be right."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def load(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        ConfigurationError: unreadable, not YAML, or not a policy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError([f"{path}: cannot be read: {exc}"]) from exc
    return parse(text, str(path))


def parse(text: str, source: str = "policy") -> Policy:
    """Check the text of a policy file; ``source`` names it in errors.

    Raises:
        ConfigurationError: not YAML, or not a policy.
    """
    try:
        document = YAML(typ="rt").load(text)
    except MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigurationError([f"{source}:{line}: {exc.problem or exc.context}"]) from exc
    except (YAMLError, ValueError) as exc:
        raise ConfigurationError([f"{source}: not YAML: {exc}"]) from exc
    if not isinstance(document, CommentedMap):
        raise ConfigurationError([f"{source}:1: a policy is a mapping that begins with version: 1"])
    try:
        return Policy.model_validate(_plain(document))
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise ConfigurationError(
            [f"{source}:{_line(document, e['loc'])}: {_describe(e['loc'], e['msg'])}" for e in errors]
        ) from exc


def _plain(node: Any) -> Any:
    """The document without ruamel's position-keeping types."""
    match node:
        case CommentedMap():
            return {str(key) if isinstance(key, str) else key: _plain(value) for key, value in node.items()}
        case CommentedSeq():
            return [_plain(value) for value in node]
        case bool():
            return bool(node)
        case str():
            return str(node)
        case float():
            return float(node)
        case int():
            return int(node)
        case _:
            return node


def _describe(loc: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        message = "unknown key"
    where = ".".join(str(part) for part in loc if part != "[key]")
    return f"{where}: {message}" if where else message


def _line(document: CommentedMap, loc: tuple[int | str, ...]) -> int:
    """The line of the innermost part of ``loc`` that the file spells; for an inherited field, the default's."""
    line, depth = _descend(document, loc)
    if loc[:1] == ("rules",) and len(loc) > 2 and depth < len(loc):
        inherited, inherited_depth = _descend(document, ("defaults", *loc[2:]))
        if inherited_depth + 1 > depth:
            return inherited
    return line


def _descend(document: CommentedMap, loc: tuple[int | str, ...]) -> tuple[int, int]:
    node: Any = document
    line = 0
    for depth, part in enumerate(loc):
        if not isinstance(node, CommentedBase):
            return line + 1, depth
        try:
            line = (node.lc.key(part) if isinstance(node, CommentedMap) else node.lc.item(part))[0]
            node = node[part]  # type: ignore[index]  # the two classes that derive from CommentedBase can be indexed
        except (KeyError, IndexError, TypeError):
            return line + 1, depth
    return line + 1, len(loc)
