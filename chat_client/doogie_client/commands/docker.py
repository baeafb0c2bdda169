"""``docker run`` (and ``podman run``): which image, with which arguments and environment. Pure."""

import re
from collections.abc import Sequence

from doogie_client.commands.docker_options import DOCKER_RUN
from doogie_client.commands.errors import FaultKind
from doogie_client.commands.reading import Assignment, Reading, Word, shown

_IMAGE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
MAX_IMAGE_CHARS = 512

_OTHER_COMMANDS = {
    "compose": "a service of a compose file: write the `docker run` of its image",
    "exec": "a container that something else made: write the `docker run` of its image",
    "attach": "a container that something else made: write the `docker run` of its image",
    "start": "a container that something else made: write the `docker run` of its image",
    "mcp": "Docker's own gateway, which needs the engine: add its servers one by one",
}


def read(program: str, words: Sequence[Word], reading: Reading, loc: str) -> None:
    """Read what follows ``docker`` or ``podman``; ``loc`` is the place of that word itself."""
    given = [word.text for word in words[:2]]
    if given[:1] == ["run"]:
        _run(words[1:], reading, loc)
    elif given == ["container", "run"]:
        _run(words[2:], reading, loc)
    elif not words:
        reading.refuse(FaultKind.MALFORMED, loc, f"{program} alone runs nothing: write {program} run IMAGE")
    elif words[0].text.startswith("-"):
        why = "the engine is the proxy's, and not the command's to choose; write no option before `run`"
        reading.refuse(FaultKind.UNSUPPORTED, words[0].loc, f"an option of {program} itself: {why}")
    elif words[0].text in _OTHER_COMMANDS:
        reading.refuse(
            FaultKind.UNSUPPORTED, words[0].loc, f"{program} {words[0].text} is {_OTHER_COMMANDS[words[0].text]}"
        )
    else:
        reading.refuse(
            FaultKind.UNKNOWN,
            words[0].loc,
            f"{shown(f'{program} {words[0].text}')} starts no server; write {program} run IMAGE",
        )


def is_image(text: str) -> bool:
    """Whether this is a reference, by the distribution project's grammar: ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``."""
    return len(text) <= MAX_IMAGE_CHARS and _IMAGE.fullmatch(text) is not None


def _run(words: Sequence[Word], reading: Reading, loc: str) -> None:
    parts, rest = DOCKER_RUN.read(words, reading)
    for _, (text, place) in parts:
        name, equals, value = text.partition("=")
        reading.env.append(Assignment(name, value if equals else None, place))
    if not rest:
        if not reading.faults:
            reading.refuse(FaultKind.MALFORMED, words[-1].loc if words else loc, "the name of an image is missing")
        return
    image, *reading.args = rest
    if is_image(image.text):
        reading.image = image
    else:
        reading.refuse(FaultKind.MALFORMED, image.loc, f"{shown(image.text)} is not the name of an image")
