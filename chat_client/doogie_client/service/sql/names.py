"""How names are compared, and the ``server_name`` that is made of one. Pure."""

import re
import unicodedata
from collections.abc import Iterator

SERVER_NAME_CHARS = 31
SERVER_NAME = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{SERVER_NAME_CHARS - 1}}}")
"""Narrower than what the proxy takes: no ``_``, because ``<server_name>__<tool>`` must split in one way only."""

NAMELESS = "server"
"""Where a name has no letter or digit that ASCII knows."""


def name_key(name: str) -> str:
    """What must be unique about a name, and what names are ordered by.

    Two names are the same if they differ in case alone, in how an accent is encoded (Unicode's canonical caseless
    matching, D145), or in characters that nobody sees.
    """
    visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", visible).casefold())
    return unicodedata.normalize("NFC", folded)


def server_names(name: str) -> Iterator[str]:
    """What a configuration's server may be called, the best first: ``my-files``, ``my-files-2``, …, without end."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    base = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:SERVER_NAME_CHARS].rstrip("-") or NAMELESS
    yield base
    number = 2
    while True:
        suffix = f"-{number}"
        yield base[: SERVER_NAME_CHARS - len(suffix)].rstrip("-") + suffix
        number += 1
