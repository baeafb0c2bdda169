"""What docs/integration.md says is so: its diffs are real, and its snippets run."""

import ast
import asyncio
import dataclasses
import json
import shutil
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from doogie_client.service import NewConfig, ServerConfig, SqlConfigStore
from tests.integration.application import EXAMPLE, ROOT, Deployment
from tests.integration.page import PAGE, block, blocks
from tests.service.backend import ADMIN, running_backend

PAGE_LINES = 110
"""What a printed page holds, in small print."""

OLD_FUNCTIONS = {
    "create_config", "get_config_by_id", "get_configs_by_user", "get_all_enabled_configs", "update_config",
    "delete_config", "get_config_status", "start_server", "stop_server", "restart_server", "execute_mcp_tool",
    "generate_mcp_config_json",
}  # fmt: skip
"""Of backend/app/services/mcp_config_service of ThreatFlux/DoogieBot."""


def sources(directory: Path) -> dict[Path, str]:
    """Every module of an application."""
    return {path.relative_to(directory): path.read_text() for path in directory.rglob("*.py")}


def calls(texts: dict[Path, str]) -> set[str]:
    """The methods of the service that are used."""
    return {
        node.attr
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"mcp", "service"}
    } - {"router"}


def routes(texts: dict[Path, str]) -> set[str]:
    """How every route is declared."""
    return {
        ast.unparse(decorator)
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
    }


def test_the_swap_is_what_was_done_to_the_example_and_fits_on_a_page(tmp_path: Path) -> None:
    swap = block("swap", "diff")
    assert swap.count("\n") <= PAGE_LINES
    assert max(map(len, swap.splitlines())) <= 121

    def apply(*options: str) -> dict[Path, str]:
        command = ["git", "apply", "--unidiff-zero", "--whitespace=error-all", *options, "-"]
        subprocess.run(command, cwd=tmp_path, input=swap, text=True, check=True)
        return sources(tmp_path)

    shutil.copytree(EXAMPLE / "chatbot", tmp_path / "chatbot", ignore=shutil.ignore_patterns("__pycache__"))
    after = sources(tmp_path)
    before = apply("--reverse")
    new = {Path("chatbot/routes/tools.py")}
    assert {path for path, text in before.items() if "doogie_client" in text} == new
    assert not [text for text in after.values() if "mcp_config_service" in text]
    before = {path: text for path, text in before.items() if path not in new}
    assert calls(before) == OLD_FUNCTIONS, "the old backend is DoogieBot's"
    assert calls(after) >= OLD_FUNCTIONS - {"get_all_enabled_configs"}, "which open_service starts"
    assert routes(before) == routes({path: text for path, text in after.items() if path not in new})
    assert apply() == after


def test_what_is_quoted_from_the_example_stands_in_it() -> None:
    text = "\n".join(sources(EXAMPLE).values())
    quoted = [code for code in PAGE.split("```python\n")[1:] if code.startswith(("@router", "def not_the"))]
    assert len(quoted) == 2
    for code in quoted:
        assert code.partition("```")[0] in text


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """structlog as it was."""
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)


async def test_the_snippets_in_python_run(
    engine: str, tmp_path: Path, restored_logging: None, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/doogie.db"
    async with (
        await SqlConfigStore.open(url, key_file=tmp_path / "key", create_key=True) as store,
        running_backend(tmp_path, store) as backend,
    ):
        record = await backend.running()
        names = {"mcp": backend.service, "config_id": record.id, "user_id": ADMIN}
        snippets = blocks("run", "python")
        assert len(snippets) == 3
        for snippet in snippets:
            code = compile(snippet, "docs/integration.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = types.FunctionType(code, names)()
            if asyncio.iscoroutine(running):
                await running
        with caplog.at_level("INFO"):
            structlog.get_logger("doogie_client").info("tool_called", server="time")
    (logged,) = [one for one in caplog.records if one.name == "doogie_client"]
    assert (logged.message, logged.__dict__["server"]) == ("tool_called", "time")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_script_without_a_loop_runs(deployment: Deployment, database_url: str) -> None:
    key_file = Path(deployment.environment["DOOGIE_CHAT_KEY_FILE"])
    async with await SqlConfigStore.open(database_url, key_file=key_file) as store:
        await store.create(NewConfig(name="idle", config=ServerConfig(command="mcp/time")), ADMIN)
    environment = {**deployment.environment, "DOOGIE_CHAT_DATABASE_URL": database_url}
    script = dataclasses.replace(deployment, environment=environment)
    assert await script.run("-c", block("script", "python")) == "idle stopped"


def test_what_the_container_gets_fits_the_repositorys_stack(tmp_path: Path) -> None:
    diff = block("compose", "diff").splitlines()
    assert [line for line in diff if line.startswith("-")] == ["-      - /var/run/docker.sock:/var/run/docker.sock"]
    service = tmp_path / "app.yaml"
    service.write_text("\n".join(line[1:] for line in diff if not line.startswith("-")))
    image = tmp_path / "image.yaml"
    image.write_text("services: {app: {image: doogiebot}}")
    files = [option for file in (ROOT / "compose.yaml", service, image) for option in ("--file", str(file))]
    command = ["docker", "compose", *files, "config", "--format", "json"]
    app = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["services"]["app"]
    assert app["user"] == "10001:10002"
    mounts = {mount["target"]: mount for mount in app["volumes"]}
    assert mounts.keys() == {"/run/doogie", "/run/doogie-token", "/app/backend/db"}
    assert (mounts["/run/doogie"]["source"], mounts["/run/doogie"]["read_only"]) == ("socket", True)
    assert (mounts["/run/doogie-token"]["source"], mounts["/run/doogie-token"]["read_only"]) == ("token", True)
