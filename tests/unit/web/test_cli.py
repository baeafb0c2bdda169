"""The command ``doogie-chat``: what keeps it from serving, what ``init`` makes, and what it does to a database."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from doogie_client.commands.errors import CatalogueError
from doogie_client.web import users
from doogie_client.web.cli import app
from doogie_client.web.provision import provision
from doogie_client.web.serve import serve
from doogie_client.web.settings import PREFIX, WebSettings
from doogie_client.web.users import UsersFile, UsersFileError, hash_token
from doogie_client.web.workers import EXIT_CANNOT_START


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WebSettings:
    """Of an app that would serve if it reached a proxy."""
    for name in list(os.environ):
        if name.startswith((PREFIX, "DOOGIE_PROXY_")):
            monkeypatch.delenv(name)
    list(provision(tmp_path / "etc", "admin"))
    return WebSettings(
        listen="tcp://127.0.0.1:0",
        users_file=tmp_path / "etc" / "users.yaml",
        key_file=tmp_path / "etc" / "encryption.key",
        database_url=f"sqlite:///{tmp_path}/chat.db",
        run_dir=tmp_path / "run",
    )


def why(settings: WebSettings, **changed: object) -> str:
    """The one line that says why it cannot start."""
    with capture_logs() as logs:
        assert serve(settings.model_copy(update=changed)) == EXIT_CANNOT_START
    assert [log["event"] for log in logs] == ["listening", "cannot_start"]
    return str(logs[1]["error"])


def test_a_database_that_cannot_be_used_is_named(settings: WebSettings, tmp_path: Path) -> None:
    assert "nowhere" in why(settings, database_url=f"sqlite:///{tmp_path}/nowhere/chat.db")


def test_a_database_of_several_hosts_needs_a_key_file(settings: WebSettings) -> None:
    reason = why(settings, database_url="postgresql://x@127.0.0.1/x", key_file=None)
    assert reason == "DOOGIE_CHAT_KEY_FILE is missing: `doogie-chat init` makes one"


def test_a_file_database_makes_its_key_beside_it(settings: WebSettings, tmp_path: Path) -> None:
    assert "no token" in why(settings, key_file=None)  # so it came as far as the proxy
    assert stat.S_IMODE((tmp_path / "chat.db.key").stat().st_mode) == 0o600


def test_a_proxy_without_a_token_is_named(settings: WebSettings) -> None:
    assert "DOOGIE_PROXY_TOKEN_FILE" in why(settings)


def test_files_that_cannot_be_used_are_named(settings: WebSettings, tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match=r"no-users\.yaml: cannot be read"):
        serve(settings.model_copy(update={"users_file": tmp_path / "no-users.yaml"}))
    with pytest.raises(CatalogueError, match=r"no-catalogue\.yaml: cannot be read"):
        serve(settings.model_copy(update={"catalogue": tmp_path / "no-catalogue.yaml"}))


# ── init ─────────────────────────────────────────────────────────────────────────────────────────


def test_init_makes_what_a_first_start_needs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["init", "--directory", str(tmp_path / "etc"), "--admin", "the boss"])
    assert done.exit_code == 0, done.output
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "etc").iterdir()}
    assert modes == {"encryption.key": 0o600, "admin.token": 0o400, "users.yaml": 0o600}
    token = (tmp_path / "etc" / "admin.token").read_text().strip()
    assert token not in done.output
    assert hash_token(token) in (tmp_path / "etc" / "users.yaml").read_text()
    assert len(UsersFile(tmp_path / "etc" / "users.yaml")) == 1


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    list(provision(tmp_path, "admin"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert all(line.endswith("kept") for line in provision(tmp_path, "other"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_init_makes_no_token_that_nobody_knows(tmp_path: Path) -> None:
    list(provision(tmp_path, "admin"))
    (tmp_path / "admin.token").unlink()
    done = CliRunner().invoke(app, ["init", "--directory", str(tmp_path)])
    assert done.exit_code == 1
    assert "admin.token is not" in done.output
    assert not (tmp_path / "admin.token").exists()


@pytest.mark.parametrize("admin", ["admin", 'quo"ted', "yes", "0x10", "Émile: x", "a#b"])
def test_any_id_can_be_the_first_admins(tmp_path: Path, admin: str) -> None:
    list(provision(tmp_path, admin))
    [user] = set(UsersFile(tmp_path / "users.yaml")._users.values())
    assert user.id == admin


# ── hash-token ───────────────────────────────────────────────────────────────────────────────────


def test_hash_token_hashes_a_line() -> None:
    done = CliRunner().invoke(app, ["hash-token"], input="a-token\n")
    assert done.output == hash_token("a-token") + "\n"
    assert CliRunner().invoke(app, ["hash-token"], input="\n").exit_code == 1


def test_hash_token_makes_a_new_one() -> None:
    token, digest = CliRunner().invoke(app, ["hash-token", "--new"]).output.split()
    assert digest == users.hash_token(token)


# ── the database ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def database(settings: WebSettings, monkeypatch: pytest.MonkeyPatch) -> WebSettings:
    """The settings, in the environment of the command."""
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL", settings.database_url)
    monkeypatch.setenv(f"{PREFIX}KEY_FILE", str(settings.key_file))
    return settings


OLD_TABLE = """
    CREATE TABLE mcp_server_configs (id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, description VARCHAR,
        server_type VARCHAR NOT NULL, status VARCHAR, container_id VARCHAR, user_id VARCHAR NOT NULL,
        created_at DATETIME, updated_at DATETIME, config JSON);
    INSERT INTO mcp_server_configs (id, name, server_type, user_id, created_at, updated_at, config) VALUES
        ('a-1', 'time', 'custom', 'alice', '2025-01-01 00:00:00', '2025-01-01 00:00:00',
         '{"command": "docker", "args": ["run", "-i", "mcp/time"], "env": {"KEY": "planted"}, "enabled": true}'),
        ('a-2', 'time', 'custom', 'bob', '2025-01-02 00:00:00', '2025-01-02 00:00:00',
         '{"command": "docker", "args": ["run", "-i", "mcp/time"], "env": null, "enabled": true}');
"""


def test_import_old_says_what_became_of_each(database: WebSettings, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "doogie.db")) as old:
        old.executescript(OLD_TABLE)
    done = CliRunner().invoke(app, ["import-old", str(tmp_path / "doogie.db")])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "a-1 'time': imported as 'time'",
        "a-2 'time': imported as 'time (2)' ('time' is taken, or cannot be a name here)",
        "2 imported, 0 skipped",
    ]
    again = CliRunner().invoke(app, ["import-old", str(tmp_path / "doogie.db")])
    assert again.output.splitlines()[-1] == "0 imported, 2 skipped"


def test_import_old_names_a_file_that_is_none(database: WebSettings, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["import-old", str(tmp_path / "nowhere.db")])
    assert done.exit_code == 1
    assert "nowhere.db is not a database of DoogieBot's" in done.output


def test_rotate_keys_says_how_much_it_encrypted_anew(database: WebSettings, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "doogie.db")) as old:
        old.executescript(OLD_TABLE)
    CliRunner().invoke(app, ["import-old", str(tmp_path / "doogie.db")])
    assert database.key_file is not None
    [old_key] = database.key_file.read_text().split()
    done = CliRunner().invoke(app, ["rotate-keys", "--new-key"])
    assert done.exit_code == 0, done.output
    assert done.output.endswith("; 2 configurations were not before\n")
    assert database.key_file.read_text().split()[1] == old_key
    assert CliRunner().invoke(app, ["rotate-keys"]).output.endswith("; 0 configurations were not before\n")


@pytest.mark.parametrize("command", [["serve"], ["rotate-keys"], ["import-old", "x.db"], ["health"]])
def test_a_setting_that_is_not_valid_is_named_by_its_variable(
    database: WebSettings, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}BODY_TIMEOUT_S", "soon")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "DOOGIE_CHAT_BODY_TIMEOUT_S: Input should be a valid number" in done.output


def test_health_says_why_it_cannot_ask(database: WebSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(f"{PREFIX}LISTEN", f"unix://{tmp_path}/nobody.sock")
    done = CliRunner().invoke(app, ["health"])
    assert done.exit_code == 1
    assert "nobody.sock" in done.output
