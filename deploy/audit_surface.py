"""Count the source lines that must be read to trust the proxy: no blanks, no comments, no docstrings."""

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRIVILEGED = ("contract/doogie_contract", "proxy/doogie_proxy")
DECIDES = ("policy", "admission", "spec", "engine")  # what decides what root does

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines that docstrings take up."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def source_lines(source: str) -> int:
    """How many lines hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(source)))


def main() -> None:
    """Print each module's count, then the two sums that are kept small."""
    counts = {
        path: source_lines(path.read_text()) for part in PRIVILEGED for path in sorted((ROOT / part).rglob("*.py"))
    }
    for path, count in counts.items():
        print(f"{count:6}  {path.relative_to(ROOT)}")
    print(f"{sum(counts.values()):6}  in all (proxy and contract)")
    decides = sum(count for path, count in counts.items() if path.stem in DECIDES)
    print(f"{decides:6}  of them decide what root does ({', '.join(DECIDES)})")


if __name__ == "__main__":
    main()
