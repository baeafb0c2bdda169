"""Image references: ``repo[:tag][@digest]`` (the distribution project's grammar, sha256 only). Pure."""

import re
from typing import NamedTuple, Self

_REFERENCE = re.compile(
    r"(?P<repo>(?:[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


class ImageRef(NamedTuple):
    """A reference in its parts."""

    repo: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split a reference.

        Raises:
            ValueError: not a reference.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an image reference: use repo, repo:tag or repo@sha256:<64 hex digits>")
        return cls(match["repo"], match["tag"], match["digest"])

    def __str__(self) -> str:
        """The reference as it is written."""
        return self.repo + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def satisfies(self, asked: Self) -> bool:
        """Whether a client that asked for ``asked`` gets what it named by getting this one."""
        return self.repo == asked.repo and asked.tag in (None, self.tag) and asked.digest in (None, self.digest)
