"""What is wrong with what was typed is said before anything is done; no engine is needed for it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from doogie_images.cli import EXIT_FAILED, EXIT_USAGE, app
from doogie_images.settings import BuildSettings

ROOT = Path(__file__).parents[3]


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"DOCKER_HOST": "unix:///nowhere/docker.sock", **env})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "uvx:a/b"], "not the name of a PyPI package"),
        (["build", "docker run x/y"], "nothing to build"),
        (["build", "npx:x", "--mount", "docs"], "--mount docs: expected NAME=VALUE"),
        (["build", "npx:x", "--mount", "docs=/srv"], "not SOURCE:TARGET"),
        (["build", "npx:x", "--mount", "docs=/srv:relative"], "not an absolute path"),
        (["build", "npx:x", "--mount", "a=/srv:/d", "--tmpfs", "/d=1MiB"], "/d: two things"),
        (["build", "npx:x", "--mount", "Docs=/srv:/d"], "mounts.Docs"),
        (["build", "npx:x", "--tmpfs", "/tmp=1MiB"], "/tmp: two things"),
        (["build", "npx:x", "--tmpfs", "/data=64"], "not a size"),
        (["build", "npx:x", "--tmpfs", "/data=1MiB", "--tmpfs", "/data=2MiB"], "--tmpfs /data is given twice"),
        (["build", "npx:x", "--memory", "lots"], "'lots' is not a size"),
        (["build", "npx:x", "--network", "host"], "docker network create"),
        (["build", "npx:x", "--apt", "git; true"], "system_packages.0"),
        (["build", "npx:x", "--with", "../x"], "not the name of an npm package"),
        (["build", "npx:x", "--env", "1A=secret"], "--?e: expected NAME=VALUE"),
        (["build", "npx:x", "--env", "NOT_SET_ANYWHERE"], "no value for NOT_SET_ANYWHERE"),
        (["build", "npx:x", "--env-file", "/nowhere"], "/nowhere"),
        (["build", "npx:x", "--lock", "/nowhere"], "/nowhere"),
        (["build", "npx:x", "--arg", "x" * 600], "args.prefix"),
        (["update"], "give --all"),
        (["update", "--all", "npx:x"], "give --all"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_done(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.stderr.startswith("doogie-images: ")
    assert message.replace("--?e", "-e") in result.stderr
    assert "secret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments", [["build", "npx:x"], ["list"], ["update", "--all"], ["remove", "x"], ["lock", "x"]]
)
def test_an_engine_that_does_not_answer_is_told_with_where_it_was_looked_for(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == EXIT_FAILED
    assert "the engine does not answer (unix:///nowhere/docker.sock)" in result.stderr


def test_a_machine_without_docker_is_told_what_to_install() -> None:
    result = run("list", PATH="/nowhere")
    assert result.exit_code == EXIT_FAILED
    assert "the docker command is not on the PATH" in result.stderr


def test_a_lock_file_for_another_version_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"six==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    result = run("build", "uvx:six==2.0", "--lock", str(lock))
    assert (result.exit_code, "pins uvx:six==1.0, not uvx:six==2.0" in result.stderr) == (EXIT_USAGE, True)
    result = run("build", "uvx:six", "--with", "attrs", "--lock", str(lock))
    assert (result.exit_code, "not for attrs" in result.stderr) == (EXIT_USAGE, True)


def test_settings_come_from_the_environment_and_from_env_as_compose_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DOOGIE_BUILD_CA", "DOOGIE_BUILD_NETWORK", "DOOGIE_PYTHON_BASE", "DOOGIE_NODE_BASE"):
        monkeypatch.delenv(name, raising=False)
    assert BuildSettings() == BuildSettings.model_construct(
        python_base="python:3.13-slim", node_base="node:24-slim", build_network="default", build_ca=None
    )
    (tmp_path / "ca.pem").write_text("BEGIN")
    (tmp_path / ".env").write_text("DOOGIE_PYTHON_BASE=ours\nDOOGIE_NODE_BASE=\nDOOGIE_BUILD_NETWORK=host\nOTHER=x\n")
    monkeypatch.setenv("DOOGIE_BUILD_NETWORK", "")
    monkeypatch.setenv("DOOGIE_BUILD_CA", str(tmp_path / "ca.pem"))
    settings = BuildSettings()
    assert (settings.python_base, settings.node_base) == ("ours", "node:24-slim")
    assert (settings.build_network, settings.build_ca) == ("default", tmp_path / "ca.pem")


def test_a_bundle_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    result = run("build", "npx:x", DOOGIE_BUILD_CA=str(tmp_path / "missing.pem"))
    assert result.exit_code == EXIT_USAGE
    assert "missing.pem is not a file that can be read" in result.stderr


def test_neither_the_proxys_nor_the_chat_sides_image_can_hold_the_builder() -> None:
    allowed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert not any("deploy/images" in line or line == "!deploy" for line in allowed)
    for dockerfile in ("Dockerfile.proxy", "Dockerfile.chat"):
        assert "images" not in "".join(
            line for line in (ROOT / dockerfile).read_text().splitlines() if line.startswith(("COPY", "RUN"))
        )
    for lock in ("proxy/requirements.lock", "chat_client/requirements.lock"):
        assert "doogie-images" not in (ROOT / lock).read_text()
