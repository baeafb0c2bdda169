import json

import pytest

from doogie_client.commands.package import Package
from doogie_images.errors import NotResolved
from doogie_images.lock import Change, Lock
from tests.unit.images.examples import HASH, NPX, UVX, npm_lock, pypi_lock


def test_an_npm_lock_tells_every_version_and_those_that_were_asked_for() -> None:
    text = npm_lock(
        ("@scope/server", "1.2.3"), ("zod", "4.0.0"), ("a/node_modules/zod", "3.0.0"), own=("@scope/server",)
    )
    lock = Lock.parse(NPX, text)
    assert lock.versions == {"@scope/server": ("1.2.3",), "zod": ("3.0.0", "4.0.0")}
    assert lock.version_of(Package.from_text("npx:@scope/server@latest")) == "1.2.3"
    assert lock.count == 3


def test_a_lock_of_npm_is_installed_with_a_package_file_that_agrees_with_it() -> None:
    lock = Lock.parse(NPX, npm_lock(("a", "1.0.0"), ("b", "2.0.0"), ("c", "3.0.0"), own=("a", "b")))
    files = lock.files()
    assert json.loads(files["package.json"]) == {"dependencies": {"a": "1.0.0", "b": "2.0.0"}}
    assert files["package-lock.json"] == lock.text


def test_a_lock_of_uv_tells_every_version() -> None:
    lock = Lock.parse(UVX, pypi_lock(server="1.2.3", typing_extensions="4.0"))
    assert lock.versions == {"server": ("1.2.3",), "typing-extensions": ("4.0",)}
    assert lock.version_of(Package.from_text("uvx:Server[extra]>=1")) == "1.2.3"
    assert lock.files() == {"requirements.lock": lock.text}


def test_markers_and_comments_of_a_lock_are_understood() -> None:
    text = f"# by uv\ntomli==2.0 ; python_version < '3.12' \\\n    --hash={HASH} \\\n    --hash={HASH}\n    # via x\n"
    assert Lock.parse(UVX, text).versions == {"tomli": ("2.0",)}


@pytest.mark.parametrize(
    "text",
    [
        "six==1.0\n",
        "six==1.0 \\\n",
        "six>=1.0 \\\n    --hash=" + HASH,
        "six==1.0 \\\n    --hash=md5:00\n",
        "--index-url https://elsewhere.example\n" + pypi_lock(six="1.0"),
        "six @ https://elsewhere.example/six.whl \\\n    --hash=" + HASH,
        pypi_lock(six="1.0") + "-r /etc/passwd\n",
        "six==1.0 \\\nsix==1.1 \\\n    --hash=" + HASH,
    ],
)
def test_requirements_that_are_not_pinned_by_hash_are_refused(text: str) -> None:
    with pytest.raises(NotResolved, match="requirements"):
        Lock.parse(UVX, text)


def test_what_no_hash_pins_is_refused_for_npm_too() -> None:
    document = json.loads(npm_lock(("a", "1.0.0"), ("b", "1.0.0"), own=("a",)))
    document["packages"]["node_modules/b"] = {"version": "1.0.0", "resolved": "git+ssh://git@elsewhere.example/b.git"}
    with pytest.raises(NotResolved, match="b is not from the registry"):
        Lock.parse(NPX, json.dumps(document))
    document["packages"]["node_modules/b"] = {"version": "1.0.0", "inBundle": True}
    assert Lock.parse(NPX, json.dumps(document)).count == 2


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"lockfileVersion": 1, "dependencies": {}}'])
def test_what_is_no_lock_of_npm_is_refused(text: str) -> None:
    with pytest.raises(NotResolved, match="package-lock"):
        Lock.parse(NPX, text)


def test_a_lock_for_another_package_is_refused() -> None:
    with pytest.raises(NotResolved, match="not for other, but for a"):
        Lock.parse(NPX, npm_lock(("a", "1.0.0"), own=("a",))).version_of(Package.from_text("npx:other"))


def test_changes_are_what_comes_goes_and_gets_another_version() -> None:
    before = Lock.parse(UVX, pypi_lock(gone="1", same="1", newer="1"))
    after = Lock.parse(UVX, pypi_lock(same="1", newer="2", fresh="3"))
    assert before.changes(after) == [
        Change("fresh", (), ("3",)),
        Change("gone", ("1",), ()),
        Change("newer", ("1",), ("2",)),
    ]
    assert before.changes(before) == []


def test_a_second_version_of_one_package_is_a_change() -> None:
    before = Lock.parse(NPX, npm_lock(("a", "1.0.0"), ("z", "1.0.0"), own=("a",)))
    after = Lock.parse(NPX, npm_lock(("a", "1.0.0"), ("z", "1.0.0"), ("a/node_modules/z", "2.0.0"), own=("a",)))
    assert before.changes(after) == [Change("z", ("1.0.0",), ("1.0.0", "2.0.0"))]
