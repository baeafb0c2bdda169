"""How the engine's words about a pull are read."""

import pytest

from doogie_contract.models import PullLayer, PullPhase
from doogie_proxy.pulls import MAX_LAYERS, PROGRESS_INTERVAL_S, Pull, reason_of


def heard(*messages: object) -> list[PullLayer]:
    pull = Pull("image")
    for message in messages:
        assert isinstance(message, dict)
        pull.hear(message)
    return pull.status.layers


def said(status: str, layer: str = "a", **detail: int) -> dict[str, object]:
    return {"status": status, "id": layer, "progressDetail": detail}


def test_each_layer_is_followed_from_its_name_to_its_end() -> None:
    steps = [
        (said("Pulling fs layer"), (PullPhase.WAITING, None, None)),
        (said("Downloading", current=5, total=9), (PullPhase.DOWNLOADING, 5, 9)),
        (said("Verifying Checksum"), (PullPhase.DOWNLOADED, 9, 9)),
        (said("Extracting", current=100, total=200), (PullPhase.EXTRACTING, 9, 9)),
        (said("Pull complete"), (PullPhase.COMPLETE, 9, 9)),
    ]
    for count in range(1, len(steps) + 1):
        (layer,) = heard(*(message for message, _ in steps[:count]))
        assert (layer.phase, layer.current_bytes, layer.total_bytes) == steps[count - 1][1]


def test_a_layer_that_is_there_is_complete_without_a_size() -> None:
    assert heard(said("Already exists")) == [PullLayer(id="a", phase=PullPhase.COMPLETE)]


def test_what_is_no_layer_is_passed_over() -> None:
    digest = {"status": "Digest: sha256:0"}
    assert heard({"status": "Pulling from tools/box", "id": "1"}, digest, {"status": None}, {}) == []


def test_no_more_layers_are_held_than_an_image_can_have() -> None:
    layers = heard(*(said("Waiting", str(number)) for number in range(2 * MAX_LAYERS)))
    assert len(layers) == MAX_LAYERS
    assert len(heard(said("Waiting", "x" * 1000))[0].id) == 64


def test_progress_is_passed_on_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = 100.0, 0

    def listener() -> None:
        nonlocal told
        told += 1

    monkeypatch.setattr("doogie_proxy.pulls.time.monotonic", lambda: now)
    pull = Pull("image")
    pull.listeners.add(listener)
    for step in range(1001):
        now = 100.0 + step * PROGRESS_INTERVAL_S / 100
        pull.hear(said("Downloading", current=step, total=1000))
    assert 9 <= told <= 12


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("no matching manifest for linux/amd64 in the manifest list entries", "none for this engine's platform"),
        ("no match for platform in manifest: not found", "none for this engine's platform"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            "none that anybody may pull",
        ),
        ('Head "http://r/v2/x/manifests/1": no basic auth credentials', "none that anybody may pull"),
        ("unauthorized: authentication required", "none that anybody may pull"),
        ("manifest for r/x:1 not found: manifest unknown: manifest unknown", "does not have it"),
        ('Get "https://r/v2/": dial tcp: lookup r: no such host', "cannot be reached, or failed"),
        ("received unexpected HTTP status: 500 Internal Server Error", "cannot be reached, or failed"),
    ],
)
def test_each_way_to_fail_has_its_reason_and_none_of_the_engines_words(words: str, reason: str) -> None:
    assert reason in reason_of(words)
    assert words not in reason_of(words)
