"""References to images: their grammar, and which pinned image satisfies what a client asked for."""

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_proxy.policy import Rule
from doogie_proxy.references import ImageRef
from tests.unit.proxy.strategies import asked_images, rule_images

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "repo", "tag", "digest"),
    [
        ("time", "time", None, None),
        ("mcp/time", "mcp/time", None, None),
        ("mcp/time:1.2", "mcp/time", "1.2", None),
        ("time:_x-Y.z", "time", "_x-Y.z", None),
        (f"mcp/time@{A}", "mcp/time", None, A),
        (f"mcp/time:1@{A}", "mcp/time", "1", A),
        ("localhost:5000/time", "localhost:5000/time", None, None),
        ("localhost:5000", "localhost", "5000", None),
        ("registry.example.org:443/a/b/c:1", "registry.example.org:443/a/b/c", "1", None),
        ("127.0.0.1/a", "127.0.0.1/a", None, None),
        ("registry:5/a", "registry:5/a", None, None),
        ("registry.example.org./a", "registry.example.org./a", None, None),
        *((f"ab{joint}cd", f"ab{joint}cd", None, None) for joint in (".", "_", "__", "-", "---")),
        *((f"host/a/ab{joint}cd", f"host/a/ab{joint}cd", None, None) for joint in (".", "_", "__", "-", "---")),
        ("a__b/c.d-e---f", "a__b/c.d-e---f", None, None),
        ("a:" + "t" * 128, "a", "t" * 128, None),
    ],
)
def test_a_reference_has_a_repository_a_tag_and_a_digest(
    text: str, repo: str, tag: str | None, digest: str | None
) -> None:
    assert ImageRef.parse(text) == (repo, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/time",
        "time/",
        "a//b",
        "../time",
        "./time",
        "a/../b",
        "Time",
        "mcp/Time",
        "-time",
        "_time",
        ".time",
        "time-",
        "a..b",
        "a___b",
        "a._b",
        "time:",
        "time:-1",
        "time:.1",
        "a/time:1/2",
        "time:a:b",
        "a:" + "t" * 129,
        "time@",
        "time@sha256:",
        "time@sha256:" + "a" * 63,
        "time@sha256:" + "a" * 65,
        "time@sha256:" + "A" * 64,
        "time@sha512:" + "a" * 128,
        "sha256:" + "a" * 64 + "@",
        f"time@{A}:1",
        f"time@{A}@{A}",
        "a:123456/b",
        "a:/b",
        "[::1]:5000/a",
        "user@host/a",
        "https://host/a",
        "time ",
        " time",
        "time\n",
        "time\0",
        "time?x",
        "time#x",
        "täme",
        "time:٣",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not an image reference: use repo, repo:tag or repo@sha256:<64 hex digits>"
    ):
        ImageRef.parse(text)


@given(st.text(alphabet="aZ0.:/@_-\n", max_size=24) | st.text())
def test_any_text_is_refused_or_split_without_loss(text: str) -> None:
    try:
        ref = ImageRef.parse(text)
    except ValueError:
        return
    assert ref.repo + (f":{ref.tag}" if ref.tag else "") + (f"@{ref.digest}" if ref.digest else "") == text
    # Whatever is put into a URL path of the engine stays below it, and no part can be an option.
    assert ".." not in PurePosixPath(ref.repo).parts
    assert re.fullmatch(r"[a-z0-9][a-z0-9._:/-]*", ref.repo)


@pytest.mark.parametrize("text", ["a-" * 256, "a." * 256, "a/" * 256, "a" * 511 + "!", "a" + "-" * 510 + "!"])
@pytest.mark.timeout(30)
def test_a_hostile_reference_is_refused_in_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not an image reference"):
        ImageRef.parse(text)


@pytest.mark.parametrize("text", ["time", "mcp/time:1", f"time@{A}", f"localhost:5000/mcp/time:1@{A}"])
def test_a_reference_is_written_as_it_was(text: str) -> None:
    assert str(ImageRef.parse(text)) == text


@pytest.mark.parametrize(
    ("pinned", "asked", "satisfied"),
    [
        (f"time@{A}", "time", True),
        (f"time@{A}", f"time@{A}", True),
        (f"time@{A}", f"time@{B}", False),
        (f"time@{A}", "time:1", False),
        (f"time@{A}", f"time:1@{A}", False),
        (f"time:1@{A}", "time:1", True),
        (f"time:1@{A}", "time:2", False),
        (f"time:1@{A}", f"time:1@{A}", True),
        (f"time:1@{A}", f"time:2@{A}", False),
        ("time:1", "time", True),
        ("time:1", "time:1", True),
        ("time:1", f"time@{A}", False),
        ("time:1", f"time:1@{A}", False),
        (f"time@{A}", f"other@{A}", False),
        (f"mcp/time@{A}", f"time@{A}", False),
        (f"time@{A}", f"localhost/time@{A}", False),
    ],
)
def test_a_pinned_image_satisfies_what_it_is(pinned: str, asked: str, satisfied: bool) -> None:
    assert ImageRef.parse(pinned).satisfies(ImageRef.parse(asked)) is satisfied


def test_the_first_image_of_a_rule_that_satisfies_is_run() -> None:
    rule = Rule(name="r", images=["other:1", "time:2", f"time:1@{A}", f"time@{B}"], allow_tags=True)
    resolved = {
        asked: str(image) if (image := rule.resolve(ImageRef.parse(asked))) else None
        for asked in ("time", "time:1", f"time@{B}", "other", "time:3", "absent")
    }
    assert resolved == {
        "time": "time:2",
        "time:1": f"time:1@{A}",
        f"time@{B}": f"time@{B}",
        "other": "other:1",
        "time:3": None,
        "absent": None,
    }


@given(images=st.lists(rule_images, min_size=1, max_size=4), asked=asked_images)
def test_what_runs_is_always_one_of_the_rules_own_images(images: list[str], asked: str) -> None:
    rule = Rule(name="r", images=images, allow_tags=True)
    image = rule.resolve(ImageRef.parse(asked))
    if image is not None:
        assert image in [ImageRef.parse(text) for text in images]
        assert image.tag or image.digest
