"""An entry into an operator's catalogue file: checked before and after, whole or not at all, comments kept."""

import fcntl
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from doogie_client.commands.catalogue import Catalogue, Entry
from doogie_client.commands.errors import CatalogueError
from doogie_images.errors import CatalogueNotWritten

_NEW = "version: 1\nimages:\n"


def write(path: Path, entry: Entry) -> bool:
    """Put an entry first, so that commands without a version mean it; False where the file has it already.

    Raises:
        CatalogueNotWritten: the file is no catalogue, cannot be written, or has another image for this very package.
    """
    try:
        with _alone(path.parent):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            changed = with_entry(text, entry, str(path))
            if changed is not None:
                _replace(path, changed)
            return changed is not None
    except (OSError, UnicodeDecodeError) as exc:
        raise CatalogueNotWritten(f"{path}: {exc}") from exc


def with_entry(text: str, entry: Entry, source: str = "catalogue") -> str | None:
    """The file's text with the entry; None where it has it. Pure.

    Raises:
        CatalogueNotWritten: as ``write``.
    """
    try:
        if not text.strip():
            return _checked(_NEW + entry.to_yaml(), entry, source)
        known = Catalogue.parse(text, source).find(entry.package)
    except CatalogueError as exc:
        raise CatalogueNotWritten(f"{source} is not a catalogue: {exc}") from exc
    if known is not None and known.image == entry.image:
        return None
    if known is not None:
        raise CatalogueNotWritten(
            f"{source} has {known.image} for {known.package}: take that entry out, or write this one by hand"
        )
    return _checked(_inserted(text, entry), entry, source)


def _inserted(text: str, entry: Entry) -> str:
    yaml = YAML()  # round trip: comments, quotes and order stay
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(text)
    fresh: CommentedMap = YAML().load(_NEW + entry.to_yaml())["images"][0]
    images: CommentedSeq = document["images"]
    images.fa.set_block_style()
    images.insert(0, fresh)
    changed = io.StringIO()
    yaml.dump(document, changed)
    return changed.getvalue()


def _checked(text: str, entry: Entry, source: str) -> str:
    """The text, after a look that it says what it should."""
    if Catalogue.parse(text, source).entries[:1] != (entry,):
        raise CatalogueNotWritten(f"{source}: the entry cannot be put into this file: write it by hand")
    return text


def _replace(path: Path, text: str) -> None:
    """In one step, so that nobody reads half of it, and a full disk leaves it as it was."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as new:
        try:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
            os.fchmod(new.fileno(), path.stat().st_mode & 0o7777 if path.exists() else 0o644)
            Path(new.name).replace(path.resolve())
        except BaseException:
            Path(new.name).unlink()
            raise


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two commands that write into one directory take turns."""
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
