"""The Docker CLI itself reads a command as ``doogie_client.commands`` does."""

import json
import os
import re
import subprocess

import pytest

from doogie_client.commands import Catalogue, CommandRefused, ServerCommand, translate
from doogie_client.commands.docker_options import DOCKER_RUN
from tests.support.harness import ENGINE_SOCKET, TOOLBOX, docker


def test_every_option_of_the_docker_command_here_is_known_with_what_it_takes() -> None:
    shown = docker("run", "--help")
    listed = re.findall(r"^ {2,6}(?:(-\w), )?(--[a-z0-9-]+)(?: (\S+))? {2,}\S", shown, re.MULTILINE)
    assert len(listed) > 80
    for short, long, takes in listed:
        option = DOCKER_RUN.find(long)
        assert option is not None, long
        assert bool(option.takes) is bool(takes), long
        assert not short or DOCKER_RUN.find(short) is option


@pytest.mark.parametrize(
    "words",
    [
        ["-it", "--rm", "-e", "A=1", TOOLBOX, "-e", "B=2", "--", "--rm"],
        ["-ieA=1", "-teB", "-e=C=3", "--env=D==4", "--env", "E=", TOOLBOX],
        ["--rm=1", "-i=true", "-t=F", "--init", "--read-only", TOOLBOX, "a b", "", "'c'"],
        ["-e", "B", "-e", "B=2", "--", TOOLBOX, "--", "-x"],
        ["--pull", "never", "--cap-drop=ALL", "-a", "stdin", "--network", "none", TOOLBOX, "x"],
        ["--security-opt", "no-new-privileges", "--ipc", "private", "--restart=no", "--init", TOOLBOX],
    ],
)
def test_the_docker_command_makes_the_same_of_it(words: list[str], engine: str) -> None:
    request = translate(ServerCommand(args=["run", *words], env={"B": "2"}), Catalogue(())).request
    created = subprocess.run(
        ["docker", "--host", f"unix://{ENGINE_SOCKET}", "create", *words],
        env={**os.environ, "B": "2"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()
    try:
        config = json.loads(docker("inspect", created))[0]["Config"]
    finally:
        docker("rm", created)
    of_the_image = json.loads(docker("image", "inspect", TOOLBOX))[0]["Config"]
    variables = dict(
        variable.split("=", 1) for variable in config["Env"] if variable not in (of_the_image["Env"] or [])
    )
    assert config["Image"] == request.image
    assert (config["Cmd"] or []) == (request.args or of_the_image["Cmd"] or [])
    assert variables | {"B": "2"} == request.env  # all that the configuration has goes to the server, named or not


@pytest.mark.parametrize("words", [["-e"], ["--rm=maybe", TOOLBOX], ["-X", TOOLBOX], ["--frobnicate", TOOLBOX], []])
def test_what_the_docker_command_does_not_take_is_refused_here_too(words: list[str], engine: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        docker("create", *words)
    with pytest.raises(CommandRefused):
        translate(ServerCommand(args=["run", *words]), Catalogue(()))
