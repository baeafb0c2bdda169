from dataclasses import replace
from datetime import timedelta

import pytest

from doogie_client.commands.package import Package
from doogie_images.errors import NotWanted
from doogie_images.images import UNFINISHED, find, newest, one
from doogie_images.request import Request
from tests.unit.images.examples import image

OLD = image("npx:@scope/server@1.0.0", image_id="sha256:" + "a" * 64)
NEW = replace(image("npx:@scope/server@2.0.0", image_id="sha256:" + "b" * 64), created=OLD.created + timedelta(days=1))
REPLACED = replace(NEW, id="sha256:" + "c" * 64, names=(), created=OLD.created + timedelta(hours=1))
OTHER = image("uvx:server==1.0", image_id="sha256:" + "d" * 64)
GIT = image(
    "uvx:server==1.0",
    image_id="sha256:" + "e" * 64,
    request=Request(package=Package.from_text("uvx:server"), system_packages=("git",)),
)
LEFT = replace(NEW, id="sha256:" + "f" * 64, names=(f"{UNFINISHED}:1",), created=NEW.created + timedelta(days=1))
ALL = [LEFT, NEW, REPLACED, OLD, OTHER, GIT]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("doogie/npx/scope/server:1.0.0", [OLD]),
        ("doogie/npx/scope/server", [NEW, OLD]),
        ("npx:@scope/server", [LEFT, NEW, REPLACED, OLD]),
        ("npx:@scope/server@1.0.0", [OLD]),
        ("uvx:server==1", [OTHER, GIT]),
        ("c" * 12, [REPLACED]),
        ("sha256:" + "c" * 64, [REPLACED]),
        ("c" * 11, []),
        ("server", []),
        ("", []),
    ],
)
def test_an_image_is_found_by_name_repository_id_and_package(wanted: str, found: list[object]) -> None:
    assert find(ALL, wanted) == found


def test_of_several_versions_the_newest_with_a_name_is_meant() -> None:
    assert one(ALL, "npx:@scope/server") is NEW
    assert one(ALL, "doogie/npx/scope/server") is NEW
    assert one(ALL, "c" * 12) is REPLACED


def test_different_things_are_not_guessed_between() -> None:
    with pytest.raises(NotWanted, match=r"several images.*doogie/uvx/server:1\.0, doogie/uvx/server:1\.0__"):
        one(ALL, "uvx:server")


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(NotWanted, match=r"no image that was built here: there are .*doogie/npx/scope/server:2\.0\.0"):
        one(ALL, "npx:nothing")
    with pytest.raises(NotWanted, match="there are none"):
        one([], "npx:nothing")


def test_an_update_of_all_takes_the_newest_of_each_package_and_its_options() -> None:
    assert newest(ALL) == [NEW, OTHER, GIT]
