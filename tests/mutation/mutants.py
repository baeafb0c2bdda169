"""All mutants of a module's source: cosmic-ray's, which change an operator or a value, and ours, which take away.

cosmic-ray has no operator that removes an entry of a dict or an argument of a call, and those are what a container's
hardening and a policy's bounds are made of: ``"CapDrop": ["ALL"]``, ``Field(ge=1)``, ``extra="forbid"``. Ours remove
each single one of

- entries and elements of displays, arguments of calls and of ``Annotated`` and ``Literal``;
- statements, methods with a decorator or two underscores, and the conditions of comprehensions;
- operands of ``and`` and ``or``, both branches of ``x if y else z``;
- anchors, alternatives and bounds of raw strings, which are patterns;

and spoil each text that is no message. What is said to people (exceptions, f-strings, descriptions) is left alone.
"""

import ast
import difflib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cosmic_ray.mutating import mutate_code  # type: ignore[import-untyped]  # it ships no types, nor do the next two
from cosmic_ray.operators.operator import Operator  # type: ignore[import-untyped]
from cosmic_ray.plugins import get_operator  # type: ignore[import-untyped]

OPERATORS = [
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ZeroIterationForLoop",
    *(f"ReplaceUnaryOperator_{pair}" for pair in ("Delete_Not", "Delete_USub")),
    *(
        f"ReplaceComparisonOperator_{pair}"
        for pair in (
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
            *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
        )
    ),
    *(
        f"ReplaceBinaryOperator_{pair}"
        for pair in ("Add_Sub", "Sub_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Pow_Mul", "Mod_Mul")
    ),
]
"""Of cosmic-ray's. Left out: those that put another variable of the module somewhere (at random, so that no two runs
agree), and a second replacement for an operator that has one (``+`` by ``//`` tells nothing that ``+`` by ``-`` does
not)."""

_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Raise, ast.Return, ast.Delete)
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)
_SAID = {"description"}
"""Keyword arguments that hold text for people."""

_Remove = Callable[[], None]


class Mutant(NamedTuple):
    """A changed module; ``where`` and ``change`` (the diff) are the same whatever is added above it."""

    source: str
    where: str
    change: str


def mutants(source: str) -> Iterator[Mutant]:
    """Each once, in a fixed order; none that is the module itself."""
    original = ast.unparse(ast.parse(source)).splitlines()
    seen = {"\n".join(original)}
    for candidate in (*_changes(source), *_removals(source)):
        if candidate in seen:
            continue
        seen.add(candidate)
        yield _described(original, candidate)


def _described(original: list[str], candidate: str) -> Mutant:
    """The lines are those of the formatted source: cosmic-ray's tree and ours agree on nothing else."""
    diff = list(difflib.unified_diff(original, candidate.splitlines(), n=0, lineterm=""))[2:]
    line = int(re.findall(r"-(\d+)", diff[0])[0])
    before, after = ([part[1:].strip() for part in diff if part[0] == sign and part[1:].strip()] for sign in "-+")
    if len(before) == len(after) == 1:
        before[0], after[0] = _shortened(before[0], after[0])
    changed = [*(f"- {text}" for text in before), *(f"+ {text}" for text in after)]
    return Mutant(candidate, _scope(original, line), "\n".join(changed))


def _shortened(before: str, after: str) -> tuple[str, str]:
    """Two versions of a line, with no more of what they share than shows where it is."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    cut, kept = max(start - 60, 0), max(end - 40, 0)
    lead, trail = "…" * bool(cut), "…" * bool(kept)
    return lead + before[cut : len(before) - kept] + trail, lead + after[cut : len(after) - kept] + trail


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))


def _scope(lines: list[str], line: int) -> str:
    """The dotted name of the class and function that this line is in; empty for the module."""
    names: list[str] = []
    indent = len(lines[line - 1]) - len(lines[line - 1].lstrip())
    for text in reversed(lines[: line - 1]):
        own = len(text) - len(text.lstrip())
        if text.strip() and own < indent:
            indent = own
            if opened := re.match(r"\s*(?:async )?(?:class|def) (\w+)", text):
                names.insert(0, opened[1])
    return ".".join(names)


def _changes(source: str) -> Iterator[str]:
    for name in OPERATORS:
        operator: Operator = get_operator(f"core/{name}")()
        occurrence = 0
        while (changed := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            try:
                yield ast.unparse(ast.parse(changed))
            except SyntaxError:
                continue


def _removals(source: str) -> Iterator[str]:
    for number, _ in enumerate(_sites(ast.parse(source))):
        tree = ast.parse(source)
        next(remove for index, remove in enumerate(_sites(tree)) if index == number)()
        yield ast.unparse(ast.fix_missing_locations(tree))


def _sites(tree: ast.Module) -> Iterator[_Remove]:
    """Everything that can be taken away, in the order of the tree; the tree is changed by calling one of them."""
    unspoken = _texts_left_alone(tree)
    of_types = {id(node.slice) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for node in ast.walk(tree):
        if id(node) not in of_types:
            yield from _elements(node)
        yield from _statements(node)
        for field, value in ast.iter_fields(node):
            children = list(value) if isinstance(value, list) else [value]
            for index, child in enumerate(children):
                for other in _replacements(child, unspoken):
                    yield _put(node, field, index if isinstance(value, list) else None, other)


def _elements(node: ast.AST) -> Iterator[_Remove]:
    if isinstance(node, ast.Dict):
        for index in range(len(node.keys)):
            yield lambda index=index: (node.keys.pop(index), node.values.pop(index))  # type: ignore[misc]  # both go
    for elements in _lists(node):
        for index, element in enumerate(elements):
            if not isinstance(element, ast.keyword) or element.arg not in _SAID:
                yield _pop(elements, index)


def _lists(node: ast.AST) -> list[list[ast.expr] | list[ast.keyword]]:
    """Those of the node's lists that may as well be shorter."""
    match node:
        case (
            ast.List(ctx=ast.Load(), elts=elements) | ast.Tuple(ctx=ast.Load(), elts=elements) | ast.Set(elts=elements)
        ):
            return [elements]
        case ast.Subscript(value=ast.Name(id="Annotated" | "Literal"), slice=ast.Tuple(elts=elements)):
            return [elements]
        case ast.Call(args=arguments, keywords=keywords):
            return [arguments, keywords]
        case ast.comprehension(ifs=conditions):
            return [conditions]
        case ast.BoolOp(values=operands) if len(operands) > 2:
            return [operands]
    return []


def _statements(node: ast.AST) -> Iterator[_Remove]:
    body = getattr(node, "body", None)
    if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.If | ast.For | ast.With | ast.Try | ast.While):
        return
    bodies = [body, *(getattr(node, name, []) for name in ("orelse", "finalbody"))]
    for statements in bodies:
        if not isinstance(statements, list):
            continue
        for index, statement in enumerate(statements):
            said = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            whole = isinstance(statement, ast.FunctionDef) and statement.name.startswith("__")
            if (isinstance(statement, _SIMPLE) and not said) or isinstance(statement, _COMPOUND) or whole:
                yield _set(statements, index, ast.Pass())


def _replacements(node: object, unspoken: set[int]) -> Iterator[ast.expr]:
    match node:
        case ast.BoolOp(values=[first, second]):
            yield from (first, second)
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Compare(left=left, ops=[ast.In()], comparators=comparators):
            yield ast.Compare(left, [ast.NotIn()], comparators)
        case ast.Compare(left=left, ops=[ast.NotIn()], comparators=comparators):
            yield ast.Compare(left, [ast.In()], comparators)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[only, _])):
            yield only
        case ast.Constant(value=str(text)) if id(node) not in unspoken:
            yield ast.Constant(text + "X")
            yield from map(ast.Constant, _weaker_patterns(text))


def _weaker_patterns(text: str) -> Iterator[str]:
    """Without an anchor or an alternative, or with another bound; nothing for a text that is no pattern."""
    if text.startswith("^"):
        yield text[1:]
    if text.endswith("$"):
        yield text[:-1]
    for alternative in re.finditer(r"(?<=[|:(])[^|()]+\||\|[^|()]+|^[^|()]+\|", text):
        yield text[: alternative.start()] + text[alternative.end() :]
    for bound in re.finditer(r"(?<=[{,])[0-9]+(?=[,}])", text):
        yield text[: bound.start()] + str(int(bound[0]) + 1) + text[bound.end() :]
    for quantifier in re.finditer(r"(?<=[])a-z0-9])[?*+]", text):
        yield text[: quantifier.start()] + text[quantifier.end() :]


def _texts_left_alone(tree: ast.Module) -> set[int]:
    """What is said to people, and names in annotations and in ``exclude=`` of what is said."""
    left_alone: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Raise() | ast.JoinedStr():
                said: list[ast.AST] = [node]
            case ast.keyword(arg=str(name)) if name in _SAID:
                said = [node]
            case ast.FunctionDef():
                said = [node.args, *([node.returns] if node.returns else [])]
            case _:
                continue
        left_alone |= {id(part) for root in said for part in ast.walk(root)}
    return left_alone


def _pop(elements: list[ast.expr] | list[ast.keyword], index: int) -> _Remove:
    def remove() -> None:
        elements.pop(index)

    return remove


def _set(statements: list[ast.stmt], index: int, other: ast.stmt) -> _Remove:
    def remove() -> None:
        statements[index] = other

    return remove


def _put(node: ast.AST, field: str, index: int | None, other: ast.expr) -> _Remove:
    def remove() -> None:
        if index is None:
            setattr(node, field, other)
        else:
            getattr(node, field)[index] = other

    return remove
