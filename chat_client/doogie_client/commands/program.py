"""Which program a command starts, past what only stands before it: variables, ``env``, ``sudo``, ``cmd /c``. Pure.

Line ──► words ──► npm.read | pypi.read | docker.read | the name of an image ──► Reading
"""

import re

from doogie_client.commands import docker, npm, pypi
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.errors import FaultKind
from doogie_client.commands.line import LINE_LOC, Line
from doogie_client.commands.reading import Assignment, Reading, Word, shown

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.ASCII | re.DOTALL)
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\", re.ASCII)
_PATH = re.compile(r"(?:/|\.|~|[A-Za-z]:[\\/]|\\).*", re.ASCII | re.DOTALL)
_WINDOWS_PROGRAM = re.compile(r"(?P<name>[a-z0-9-]+)\.(?:exe|cmd|bat|ps1)", re.ASCII | re.IGNORECASE)
_WINDOWS_VARIABLE = re.compile(r"%[A-Za-z_][A-Za-z0-9_()]*%", re.ASCII)

_DOCKER = frozenset({"docker", "podman"})
_BEFORE = {
    "env": None,
    "sudo": "whoever may start a server needs no privileges for it",
    "wsl": "a server runs in a container of its own",
}
"""What may stand before a program, with a note where it asks for something."""
_SHELLS = frozenset({"bash", "cmd", "dash", "fish", "ksh", "powershell", "pwsh", "sh", "zsh"})
_LOCAL = frozenset(
    {"cargo", "deno", "dotnet", "go", "java", "make", "node", "poetry", "py", "python", "python3", "ruby"}
)
_KNOWN = "docker run, npx, npm exec, pnpm dlx, yarn dlx, bunx, uvx, uv tool run, pipx run"


def read(command: ServerCommand) -> Reading:
    """Everything that a command's words say."""
    reading = Reading()
    words = _past_what_stands_before(_words(command, reading), reading)
    if not words:
        if not reading.faults:
            reading.refuse(FaultKind.MALFORMED, LINE_LOC, f"there is no program: write {_KNOWN} or an image")
        return reading
    first, rest = words[0], words[1:]
    program = _program(first.text)
    if program in _DOCKER:
        docker.read(program, rest, reading, first.loc)
    elif program in npm.PROGRAMS:
        npm.read(program, rest, reading, first.loc)
    elif program in pypi.PROGRAMS:
        pypi.read(program, rest, reading, first.loc)
    elif docker.is_image(first.text) and not {"/", ":", "@"}.isdisjoint(first.text):
        reading.image, reading.args = first, rest
    else:
        _refuse(program, first, reading)
    return reading


def _words(command: ServerCommand, reading: Reading) -> list[Word]:
    given = [Word(arg, f"args.{index}") for index, arg in enumerate(command.args)]
    if _WINDOWS_PATH.match(command.command):
        return [Word(command.command, LINE_LOC), *given]
    line = Line.read(command.command)
    reading.faults += line.faults
    return [*(Word(text, LINE_LOC) for text in line.words), *given]


def _past_what_stands_before(words: list[Word], reading: Reading) -> list[Word]:
    while words:
        first = words[0]
        program = _program(first.text)
        if assignment := _ASSIGNMENT.fullmatch(first.text):
            reading.env.append(Assignment(assignment["name"], assignment["value"], first.loc))
            words = words[1:]
        elif program == "cmd":
            words = _cmd(words, reading)
        elif program in _BEFORE:
            words = words[1:]
            if note := _BEFORE[program]:
                reading.notes.append(f"{program}: {note}")
            if words and words[0].text.startswith("-"):
                name = words[0].text.partition("=")[0]
                reading.refuse(
                    FaultKind.UNKNOWN, words[0].loc, f"{shown(name)} of {program} is not known; leave it out"
                )
                return []
        else:
            break
    return words


def _cmd(words: list[Word], reading: Reading) -> list[Word]:
    """What ``cmd /c`` runs: the words behind it, or the one line that they are."""
    at = 1
    while at < len(words) and words[at].text.lower() in {"/d", "/q", "/s"}:
        at += 1
    if at == len(words) or words[at].text.lower() != "/c":
        _refuse("cmd", words[0], reading)
        return []
    reading.notes.append("cmd /c: a program is started without a shell")
    words = words[at + 1 :]
    if len(words) == 1 and " " in words[0].text and "\\" not in words[0].text:
        line = Line.read(words[0].text, words[0].loc)
        reading.faults += line.faults
        words = [Word(text, words[0].loc) for text in line.words]
    for word in words:
        if variable := _WINDOWS_VARIABLE.search(word.text):
            reading.refuse(FaultKind.MALFORMED, word.loc, f"{variable[0]} is for a shell to replace; write its value")
    return words


def _program(text: str) -> str:
    """The name of a program that may be given with its path, or with the suffix it has on Windows."""
    name = re.split(r"[\\/]", text)[-1] if _PATH.fullmatch(text) else text
    windows = _WINDOWS_PROGRAM.fullmatch(name)
    return windows["name"].lower() if windows else name


def _refuse(program: str, word: Word, reading: Reading) -> None:
    if program in _SHELLS:
        why = "is a shell, and there is none; write the command that it would run"
        reading.refuse(FaultKind.UNSUPPORTED, word.loc, f"{program} {why}")
    elif program in _LOCAL or _PATH.fullmatch(word.text):
        why = "runs what is on the machine the command was written for; use the server's package or image, or build one"
        reading.refuse(FaultKind.UNSUPPORTED, word.loc, f"{shown(program)} {why}")
    else:
        right = f"known are {_KNOWN}; an image is written repository/name or name:tag"
        reading.refuse(FaultKind.UNKNOWN, word.loc, f"{shown(program)} is not a known program: {right}")
