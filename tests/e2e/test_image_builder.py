"""What the image builder does besides building: updates, refusals, and that it leaves nothing behind."""

import json
import re
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from doogie_client.commands.catalogue import Catalogue
from doogie_images.container import LABEL
from doogie_images.images import PACKAGE_LABEL, UNFINISHED
from tests.e2e.builder import DOOGIE_IMAGES, ENVIRONMENT, ROOT, doogie_images, engine_as_it_was, names, succeeded
from tests.support.harness import docker

pytestmark = pytest.mark.usefixtures("engine")

COW = "uvx:pycowsay"
"""A package that is small, and no MCP server."""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    with engine_as_it_was("doogie/uvx/pycowsay:"):
        yield


def of_the_builder() -> tuple[list[str], list[str], dict[str, str]]:
    """Containers and images that it made, with or without a name, and its names."""
    containers = docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()
    images = docker("image", "ls", "--all", "--quiet", "--no-trunc", "--filter", f"label={PACKAGE_LABEL}").split()
    return containers, sorted(set(images)), names()


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("resolving", signal.SIGINT),
        ("installing", signal.SIGHUP),
        ("making the image", signal.SIGINT),
        ("starting it", signal.SIGINT),
        ("starting it", signal.SIGTERM),
    ],
)
def test_a_build_that_is_interrupted_leaves_nothing_behind(step: str, number: signal.Signals, tmp_path: Path) -> None:
    before = of_the_builder()
    # Asked for like this by nobody else, so that no image of the same content has a name.
    command = [DOOGIE_IMAGES, "build", "--memory", "255MiB", "uvx:mcp-server-time"]
    command += [] if step == "resolving" else ["--lock", "deploy/images/mcp-server-time/requirements.lock"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**ENVIRONMENT, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(step):
                process.send_signal(number)
                break
        said += process.stderr.readlines()
    assert process.returncode == 128 + (signal.SIGINT if number is signal.SIGINT else signal.SIGTERM), "".join(said)
    assert "Traceback" not in "".join(said)
    assert of_the_builder() == before
    assert list(tmp_path.iterdir()) == []


# --- what does not become an image ------------------------------------------------------------------------------------


def test_a_server_that_does_not_answer_leaves_no_image_but_its_last_words() -> None:
    before = of_the_builder()
    lock = ("--lock", "deploy/images/mcp-server-time/requirements.lock")
    done = doogie_images("build", *lock, "uvx:mcp-server-time", "--", "--no-such-option")
    assert done.exit_code == 1
    assert "the server does not run as it is started here: it exited with code 2" in done.stderr
    assert "  | " in done.stderr
    assert "--no-such-option" in done.stderr
    assert done.stdout == ""
    assert of_the_builder() == before


def test_an_image_that_is_kept_to_look_into_it_is_listed_as_unfinished_and_can_be_removed() -> None:
    before = of_the_builder()
    done = doogie_images("build", "--keep", "--memory", "254MiB", COW)
    assert done.exit_code == 1
    told = re.search(rf"kept as ({UNFINISHED}:[0-9a-f]+)", done.stderr)
    assert told is not None, done.stderr
    kept = told[1]
    assert kept in succeeded("list")
    succeeded("remove", kept)
    assert of_the_builder() == before


def test_a_version_that_does_not_exist_is_told_with_the_newest_one() -> None:
    for package in ("npx:@modelcontextprotocol/server-memory@0.0.0", "uvx:pycowsay==0.0.0"):
        done = doogie_images("build", package)
        assert done.exit_code == 1
        assert "has no " in done.stderr
        assert "the newest version is " in done.stderr


def test_a_package_that_would_run_code_to_be_installed_is_refused_until_that_is_allowed() -> None:
    refused = doogie_images("build", "uvx:docopt")
    assert refused.exit_code == 1
    assert "docopt has no wheel" in refused.stderr
    allowed = doogie_images("build", "--allow-scripts", "uvx:docopt")
    assert "warning: code of the packages will run in the build container" in allowed.stderr
    assert "docopt has no program to run" in allowed.stderr  # it is installed, and is a library


# --- images that others made ------------------------------------------------------------------------------------------


@contextmanager
def imported(name: str, **labels: str) -> Iterator[str]:
    """An empty image with the builder's labels."""
    changes = [word for key, value in labels.items() for word in ("--change", f"LABEL io.doogie.image.{key}='{value}'")]
    with tempfile.TemporaryFile() as empty:
        tarfile.open(fileobj=empty, mode="w").close()
        empty.seek(0)
        command = ["docker", "import", *changes, "-", name]
        subprocess.run(command, env=ENVIRONMENT, stdin=empty, stdout=subprocess.DEVNULL, check=True)
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


def test_labels_that_the_builder_did_not_write_are_nobodys_image() -> None:
    package = "uvx:mcp-server-time==1.0"
    with (
        imported("doogie-test/labels:1", package=package, request="{"),
        imported("doogie-test/labels:2", package="nonsense", request="{}"),
        imported("doogie-test/labels:3", package=package, request='{"package": {"runner": "uvx"}}'),
        imported("doogie-test/labels:4", package=package),
    ):
        assert "doogie-test/labels" not in succeeded("list")


def test_an_image_that_cannot_be_updated_does_not_keep_others_from_it() -> None:
    first = json.loads(succeeded("build", "--json", "--no-smoke", "--memory", "253MiB", COW))
    request = json.dumps({"package": {"runner": "uvx", "name": "mcp-server-time"}})
    with imported("doogie-test/empty:1", package="uvx:mcp-server-time==1.0", request=request) as broken:
        done = doogie_images("update", broken, first["image"])
    assert done.exit_code == 1
    assert f"{first['image']} is up to date" in done.stderr
    assert f"doogie-images: {broken}: docker create failed" in done.stderr


# --- from one version to the next -------------------------------------------------------------------------------------


def test_an_image_is_built_again_from_its_lock_updated_and_removed(tmp_path: Path) -> None:
    old = json.loads(succeeded("build", "--json", "--no-smoke", "uvx --with six==1.15.0 pycowsay==0.0.0.1"))
    lock = tmp_path / "cow.lock"
    lock.write_text(succeeded("lock", old["id"]))
    assert "six==1.15.0 \\\n    --hash=sha256:" in lock.read_text()
    succeeded("remove", old["image"])

    # The same request without versions, from that lock file: the same packages.
    asked = ("build", "--json", "--no-smoke", "--with", "six", COW)
    catalogue = tmp_path / "catalogue.yaml"
    first = json.loads(succeeded(*asked, "--lock", str(lock), "--write-catalogue", str(catalogue)))
    assert (first["lock"], first["package"]) == (old["lock"], "uvx:pycowsay==0.0.0.1")
    assert json.loads(succeeded(*asked, "--lock", str(lock)))["id"] == first["id"]

    # It does not build without being told to, and shows what it would.
    shown = doogie_images("update", COW)
    assert shown.exit_code == 0
    assert "    pycowsay 0.0.0.1 → 0.0.0.2\n" in shown.stderr
    assert "    six 1.15.0 → " in shown.stderr
    assert (shown.stdout, "nothing is built" in shown.stderr) == ("", True)
    updated = ("update", "--yes", "--json", "--no-smoke", "--write-catalogue", str(catalogue), COW)
    second = json.loads(succeeded(*updated))
    assert second["package"] == "uvx:pycowsay==0.0.0.2"
    entries = Catalogue.parse(catalogue.read_text()).entries
    assert [entry.image for entry in entries] == [second["image"], first["image"]]
    assert "is up to date" in doogie_images("update", COW).stderr

    # The old one is there until nobody uses it.
    container = docker("create", first["image"])
    try:
        refused = doogie_images("remove", first["image"])
        assert refused.exit_code == 1
        used_by = docker("inspect", "--format", "{{.Name}}", container).removeprefix("/")
        assert f"{first['image']} is used by {used_by}" in refused.stderr
        listed = {image["id"]: image for image in json.loads(succeeded("list", "--json"))["images"]}
        assert listed[first["id"]]["containers"] == [used_by]
        assert listed[second["id"]]["containers"] == []
    finally:
        docker("rm", container)
    succeeded("remove", first["image"], second["id"])
    assert not {first["image"], second["image"]} & set(names())
