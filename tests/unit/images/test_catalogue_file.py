import os
import stat
import threading
from pathlib import Path

import pytest

from doogie_client.commands.catalogue import Catalogue, Entry
from doogie_client.commands.package import Package
from doogie_images.catalogue_file import with_entry, write
from doogie_images.errors import CatalogueNotWritten


def entry(version: str = "1.0.0", image: str | None = None) -> Entry:
    return Entry(Package.from_text(f"npx:@scope/pkg@{version}"), image or f"doogie/npx/scope/pkg:{version}")


OTHERS = """\
# Ours, by hand.
version: 1

images:
  # the oldest
  - package: "uvx:other==1.0" # pinned for a reason
    image: 'registry.example/other:1.0'
"""


def test_a_new_file_is_a_whole_catalogue() -> None:
    text = with_entry("", entry())
    assert text is not None
    assert Catalogue.parse(text).entries == (entry(),)


def test_an_entry_comes_first_so_that_commands_without_a_version_mean_it() -> None:
    text = with_entry(OTHERS, entry("1.0.0"))
    assert text is not None
    newer = with_entry(text, entry("2.0.0"))
    assert newer is not None
    found = Catalogue.parse(newer).find(Package.from_text("npx:@scope/pkg"))
    assert found == entry("2.0.0")
    assert Catalogue.parse(newer).find(Package.from_text("npx:@scope/pkg@1.0.0")) == entry("1.0.0")


def test_what_was_written_by_hand_stays_as_it_was() -> None:
    text = with_entry(OTHERS, entry())
    assert text is not None
    for line in OTHERS.splitlines():
        assert line in text.splitlines()


def test_an_entry_that_is_there_is_not_written_again() -> None:
    text = with_entry(OTHERS, entry())
    assert text is not None
    assert with_entry(text, entry()) is None


def test_another_image_of_the_same_package_is_refused_and_named() -> None:
    text = with_entry(OTHERS, entry(image="registry.example/pkg:mine"))
    assert text is not None
    with pytest.raises(CatalogueNotWritten, match=r"registry\.example/pkg:mine for npx:@scope/pkg@1\.0\.0"):
        with_entry(text, entry())


@pytest.mark.parametrize(
    "text", ["version: 1\nimages: []\n", "version: 1\nimages:\n- package: uvx:a==1\n  image: b:1\n"]
)
def test_other_ways_to_write_a_list_are_understood(text: str) -> None:
    changed = with_entry(text, entry())
    assert changed is not None
    assert Catalogue.parse(changed).entries[0] == entry()
    assert len(Catalogue.parse(changed).entries) == len(Catalogue.parse(text).entries) + 1


@pytest.mark.parametrize(
    "text", ["rules: []", "version: 2\nimages: []", "- a", "version: 1\nimages:\n  - nonsense: 1\n", "{"]
)
def test_a_file_that_is_no_catalogue_stays_as_it_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    with pytest.raises(CatalogueNotWritten, match=r"catalogue\.yaml is not a catalogue"):
        write(path, entry())
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_keeps_its_mode_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(OTHERS)
    path.chmod(0o640)
    assert write(path, entry()) is True
    assert write(path, entry()) is False
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real" / "catalogue.yaml"
    real.parent.mkdir()
    link = tmp_path / "catalogue.yaml"
    link.symlink_to(real)
    assert write(link, entry()) is True
    assert link.is_symlink()
    assert Catalogue.parse(real.read_text()).entries == (entry(),)


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogueNotWritten, match="nowhere"):
        write(tmp_path / "nowhere" / "catalogue.yaml", entry())


def test_commands_that_write_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    versions = [f"1.0.{number}" for number in range(20)]
    threads = [threading.Thread(target=write, args=(path, entry(version))) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.package.version for found in Catalogue.parse(path.read_text()).entries} == set(versions)
    assert os.listdir(tmp_path) == ["catalogue.yaml"]  # noqa: PTH208 - names alone
