"""docs/integration.md: its blocks, each of which a comment above it names."""

import re

from tests.integration.application import ROOT

PAGE = (ROOT / "docs" / "integration.md").read_text()


def blocks(name: str, language: str) -> list[str]:
    """The text of all blocks of this name."""
    return re.findall(rf"<!-- {name} -->\n```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def block(name: str, language: str) -> str:
    """The text of the one block of this name."""
    (found,) = blocks(name, language)
    return found
