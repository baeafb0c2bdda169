"""For any command: no argument is lost or invented, and hostile input ends in an answer."""

import time
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doogie_client.commands import CommandRefused, ServerCommand, Translation, package_of, to_docker_run, translate
from doogie_client.commands.docker_options import DOCKER_RUN
from doogie_client.commands.options import Always, Mapped, Option, Refused
from doogie_contract.models import StartRequest
from tests.unit.client.commands.reading import SHIPPED

IMAGE = st.sampled_from(["mcp/time", "ghcr.io/a/b:1.0", "x@sha256:" + "a" * 64, "localhost:5000/a_b/c-d"])
NAME = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).filter(lambda text: "${" not in text)
RESOURCE = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,9}", fullmatch=True)


@dataclass
class Built:
    """A command, and what must come of it."""

    words: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    faults: list[tuple[str, str]] = field(default_factory=list)


@st.composite
def uses(draw: st.DrawFn, built: Built, option: Option) -> None:
    """Add one use of an option in one of the ways in which it can be spelled."""
    name = draw(st.sampled_from(option.names))
    place = f"args.{len(built.words)}"
    short = len(name) == 2
    if isinstance(option.meaning, Mapped):
        variable = draw(NAME)
        value = built.env.setdefault(variable, draw(TEXT))
        text = f"{variable}={value}"
    elif option.takes is None:
        text = draw(st.sampled_from(["true", "false", "1", "F"]))
    else:
        text = draw(
            TEXT | st.sampled_from(["none", "private", "no", "default", "/tmp", "stdin", "--rm", "-i", "mcp/x"])
        )
    if option.takes is None:
        built.words.append(name if text == "true" else f"{name}={text}")
    elif draw(st.booleans()) or not text:
        built.words += [name, text]
    elif short and text[0] != "=" and draw(st.booleans()):
        flags = draw(st.lists(st.sampled_from(["i", "t", "q"]), max_size=2))
        built.words.append(f"-{''.join(flags)}{name[1]}{text}")
        built.notes |= {f"-{flag}" for flag in flags}
    else:
        built.words.append(f"{name}={text}")
    expect(built, option, name, text, place)


def expect(built: Built, option: Option, name: str, text: str, place: str) -> None:
    """What the table says of this use, in the terms of the test."""
    meaning = option.meaning
    off = option.takes is None and text in {"false", "F"}
    if isinstance(meaning, Mapped):
        return
    if not isinstance(meaning, Always | Refused):
        meaning = meaning.judge(text)
    value = ("false" if off else "true") if option.takes is None else text
    if isinstance(meaning, Always) and meaning.otherwise is not None and value not in meaning.values:
        meaning = meaning.otherwise
    elif isinstance(meaning, Refused) and off:
        meaning = Always("off in any case")
    if isinstance(meaning, Always):
        built.notes.add(f"{name}=false" if off else name)
    else:
        built.faults.append((meaning.kind, place))


@st.composite
def commands(draw: st.DrawFn, options: list[Option]) -> tuple[Built, str, list[str]]:
    built = Built(words=["run"])
    for option in draw(st.lists(st.sampled_from(options), max_size=8)):
        draw(uses(built, option))
    if draw(st.booleans()):
        built.words.append("--")
    image, args = draw(IMAGE), draw(st.lists(TEXT | st.sampled_from(["-e", "A=1", "--", "--rm", "-it"]), max_size=5))
    built.words += [image, *args]
    return built, image, args


HARMLESS = [option for option in DOCKER_RUN.options if isinstance(option.meaning, Mapped | Always)]


def named(translation: Translation) -> set[str]:
    return {note.partition(":")[0] for note in translation.notes}


@settings(max_examples=400)
@given(commands(list(DOCKER_RUN.options)))
def test_each_option_is_in_the_request_in_a_note_or_in_a_fault(generated: tuple[Built, str, list[str]]) -> None:
    built, image, args = generated
    asked = ServerCommand(command="docker", args=built.words)
    if built.faults:
        with pytest.raises(CommandRefused) as refused:
            translate(asked, SHIPPED)
        assert [(fault.kind, fault.loc) for fault in refused.value.faults] == built.faults
        return
    found = translate(asked, SHIPPED)
    assert (found.request.image, found.request.args, found.request.env) == (image, args, built.env)
    assert named(found) == built.notes


@settings(max_examples=200)
@given(commands(HARMLESS).filter(lambda generated: not generated[0].faults))
def test_no_argument_is_lost_or_invented(generated: tuple[Built, str, list[str]]) -> None:
    built, image, args = generated
    found = translate(ServerCommand(command="docker", args=built.words), SHIPPED)
    assert (found.request.image, found.request.args, found.request.env) == (image, args, built.env)
    assert named(found) == built.notes


@given(
    st.builds(
        StartRequest,
        image=IMAGE,
        args=st.lists(TEXT, max_size=8),
        env=st.dictionaries(NAME, TEXT, max_size=5),
        secrets=st.lists(RESOURCE, max_size=3, unique=True),
        mounts=st.lists(RESOURCE, max_size=3, unique=True),
    )
)
def test_a_request_that_is_printed_and_read_again_is_the_same(request: StartRequest) -> None:
    program, *args = to_docker_run(request)
    asked = ServerCommand(command=program, args=args, secrets=request.secrets, mounts=request.mounts)
    assert translate(asked, SHIPPED).request == request


PROGRAMS = [
    "docker run",
    "npx",
    "npm exec",
    "pnpm dlx",
    "uvx",
    "uv tool run",
    "uv run --with",
    "pipx run",
    "cmd /c",
    "env",
]
WORDS = st.text(max_size=30) | st.sampled_from(
    ["-e", "A=1", "-it", "--", "-p", "--from", "--with", "a,b[", "@a/b@1", "foo==1", "-y", "${A}", "git+x", "mcp/x", ""]
)


@settings(max_examples=400)
@given(st.sampled_from(PROGRAMS) | st.text(min_size=1, max_size=60), st.lists(WORDS, max_size=8), st.booleans())
def test_anything_at_all_is_translated_or_refused(program: str, args: list[str], line: bool) -> None:
    words = program.split() if not line else []
    asked = ServerCommand(command=program if line or not words else words[0], args=[*words[1:], *args])
    try:
        package_of(asked)
        assert translate(asked, SHIPPED).request.image
    except CommandRefused as refused:
        assert refused.faults  # noqa: PT017 - either outcome is right; this is what holds of one of them
        for fault in refused.faults:
            assert fault.msg
            assert fault.loc.split(".")[0] in {"command", "args", "env", "secrets", "mounts"}
            assert fault.ask is None or "\n" not in fault.ask


N = 30_000


@pytest.mark.parametrize(
    "words",
    [
        ["$(" * (N // 2)],
        ['"' + "$a" * (N // 2)],
        ["<a" * (N // 2)],
        ["A=1 " * (N // 4)],
        ["docker run " + "-e A=1 " * (N // 8) + "mcp/x"],
        ["docker", "run", "-" + "i" * N, "mcp/x"],
        ["docker", "run", "-v", ":" * N, "mcp/x"],
        ["docker", "run", "--mount", "," * N, "mcp/x"],
        ["docker", "run", "a-" * N],
        ["docker", "run", *(["-e", "A=" + "x" * 1000] * 255)],
        ["docker", "run", "mcp/x", *(["x" * 10 * N] * 100)],
        ["npx", "--", "a@" * N],
        ["npx", "--", "@a/" * N],
        ["npm", "exec", *(["a", "--yes"] * 255)],
        ["uvx", "--", "a==" * N],
        ["uvx", "--with", "a," * N, "x"],
        ["uvx", "--with", "[" * N, "x"],
        ["cmd", *(["/c", "cmd"] * 255)],
        ["cmd", "/c", "%a" * N, "x"],
        ["docker", "run", "-e", "A=" + "${a" * N, "mcp/x"],
    ],
    ids=range(20),
)
def test_hostile_input_is_answered_in_linear_time(words: list[str]) -> None:
    started = time.monotonic()
    with suppress(CommandRefused):
        translate(ServerCommand(command=words[0], args=words[1:]), SHIPPED)
    assert time.monotonic() - started < 10  # a second at most on any machine; quadratic would be minutes
