import os
from pathlib import Path

import pytest

from doogie_client.service.run_dir import MAX_SOCKET_PATH_BYTES, RunDir


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_the_first_process_is_told_so_and_clears_up_after_the_dead(path: Path) -> None:
    with RunDir(path) as first:
        assert first.first
        with RunDir(path) as second:
            assert not second.first
            second.publish("config")
            second.socket.touch()
            second.mark_fresh("config", "container")
            second.socket = path / "0.sock"  # it dies without taking it with it
    assert len(list(path.glob("*.sock"))) == 1
    with RunDir(path) as next_one:
        assert next_one.first
        assert next_one.owner("config") is None
        assert not list(path.glob("*.sock"))
        assert next_one.take_fresh("config", "container"), "what has run on is still fresh"


def test_a_session_is_found_until_it_is_withdrawn(path: Path) -> None:
    with RunDir(path) as one, RunDir(path) as other:
        assert one.owner("config") is None
        one.publish("config")
        assert other.owner("config") == one.socket
        assert one.owner("config") is None, "its own is no other's"
        other.publish("config")
        one.withdraw("config")
        assert one.owner("config") == other.socket, "what another has published meanwhile stays"
        other.withdraw("config")
        assert one.owner("config") is None


def test_a_container_is_fresh_once(path: Path) -> None:
    with RunDir(path) as one, RunDir(path) as other:
        assert not one.take_fresh("config", "a")
        one.mark_fresh("config", "a")
        assert other.take_fresh("config", "a")
        assert not one.take_fresh("config", "a")
        one.mark_fresh("config", "a")
        assert not other.take_fresh("config", "b"), "another container has the name"
        one.mark_fresh("config", "b")
        one.forget("config")
        assert not one.take_fresh("config", "b")


def test_ids_of_any_kind_make_names_of_one_kind(path: Path) -> None:
    with RunDir(path) as run_dir:
        for config_id in ("../../etc", "x" * 5000, "\u00fc\n"):
            run_dir.publish(config_id)
            run_dir.mark_fresh(config_id, "a")
        assert {entry.parent for entry in path.rglob("*")} == {path}


def test_the_directory_is_this_users_alone(path: Path, tmp_path: Path) -> None:
    with RunDir(path):
        assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o750)
    with pytest.raises(PermissionError, match=r"this user's alone \(mode 0700\)"), RunDir(path):
        pass
    path.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(PermissionError), RunDir(link):
        pass


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_by_how_much() -> None:
    room = MAX_SOCKET_PATH_BYTES - len("/") - 32
    RunDir(Path("/" + "x" * (room - 1)))
    with pytest.raises(ValueError, match="2 bytes too long"):
        RunDir(Path("/" + "x" * (room + 1)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_is_refused(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(PermissionError), RunDir(path):
        pass
