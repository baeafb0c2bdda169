import shlex

import pytest

from doogie_client.commands import Catalogue, CommandRefused, ServerCommand, translate
from doogie_client.commands.translate import package_of
from doogie_images.errors import NotWanted
from doogie_images.words import read


@pytest.mark.parametrize(
    ("words", "package", "args"),
    [
        (["npx:@scope/pkg@1.2.3"], "npx:@scope/pkg@1.2.3", ()),
        (["uvx:pkg[extra]==1.2"], "uvx:pkg[extra]==1.2", ()),
        (["uvx:pkg>=1, <2"], "uvx:pkg>=1,<2", ()),
        (["npx:pkg", "--flag", "/data"], "npx:pkg", ("--flag", "/data")),
        (["npx", "-y", "@scope/pkg", "--flag"], "npx:@scope/pkg", ("--flag",)),
        (["npx -y @scope/pkg '/my documents'"], "npx:@scope/pkg", ("/my documents",)),
        (["uvx", "pkg@1.2", "--db-path", "/tmp/x.db"], "uvx:pkg==1.2", ("--db-path", "/tmp/x.db")),
    ],
)
def test_a_package_and_a_published_line_are_read_alike(words: list[str], package: str, args: tuple[str, ...]) -> None:
    wanted = read(words)
    assert (str(wanted.package), wanted.args) == (package, args)


def test_a_program_of_the_package_and_what_is_beside_it_are_kept() -> None:
    wanted = read(["uvx --with 'mcp<2' --from pkg[cli]==1.0 run-it -v"])
    assert (wanted.package.executable, wanted.package.with_packages, wanted.args) == ("run-it", ("mcp<2",), ("-v",))


def test_variables_before_the_command_are_the_servers() -> None:
    assert read(["env API_KEY=secret npx -y pkg"]).env == {"API_KEY": "secret"}


@pytest.mark.parametrize(
    "line",
    [
        "npx -y @scope/pkg",
        "npx -y @scope/pkg@1.2.3 --flag",
        "npx -y -p @scope/pkg@1.2.3 -p other run-it",
        "uvx pkg",
        "uvx 'pkg[cli,extra]==1.2' --flag",
        "uvx --with 'mcp<2' --from pkg run-it",
    ],
)
def test_the_line_that_a_refused_command_asks_the_operator_for_builds_what_it_needs(line: str) -> None:
    command = ServerCommand(command=line)
    with pytest.raises(CommandRefused) as caught:
        translate(command, Catalogue(()))
    (fault,) = caught.value.faults
    assert fault.ask is not None
    program, verb, *words = shlex.split(fault.ask)
    assert (program, verb) == ("doogie-images", "build")
    assert read(words).package == package_of(command)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["docker run -i --rm mcp/time"], "nothing to build"),
        (["mcp/time:1"], "nothing to build"),
        (["uvx:a/b"], "not the name of a PyPI package"),
        (["npx:"], "not the name of an npm package"),
        (["npx:git+https://user:token@elsewhere.example/x"], "not the name of an npm package"),
        (["uvx --from git+https://elsewhere.example/x run-it"], "not one fixed version"),
        (["npx -y pkg | tee log"], "needs a shell"),
        (["python server.py"], "is not a known program|is on the machine"),
        ([""], "at least 1 character"),
    ],
)
def test_what_is_no_package_of_a_registry_is_refused(words: list[str], why: str) -> None:
    with pytest.raises(NotWanted, match=why) as caught:
        read(words)
    assert "token" not in str(caught.value)
