"""Listeners: what is bound, who may connect, and what is never replaced."""

import socket
import stat
from pathlib import Path

import pytest

from doogie_client.web.listen import ListenError, bind, url_of
from doogie_client.web.settings import TcpListener, UnixListener


def test_a_tcp_listener_says_which_port_was_chosen() -> None:
    with bind(TcpListener("127.0.0.1", 0)) as listening:
        url = url_of(listening)
        assert url == f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ListenError, match="cannot listen on"):
            bind(TcpListener("127.0.0.1", listening.getsockname()[1]))


def test_an_ipv6_listener_has_its_brackets() -> None:
    with bind(TcpListener("::1", 0)) as listening:
        assert url_of(listening).startswith("http://[::1]:")


def test_a_unix_listener_is_its_groups(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with bind(UnixListener(path)) as listening:
        assert url_of(listening) == f"unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_socket_of_a_dead_app_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    bind(UnixListener(path)).close()
    assert path.is_socket()
    with bind(UnixListener(path)):
        with pytest.raises(ListenError, match="another process listens"):
            bind(UnixListener(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is not a socket"):
        bind(UnixListener(path))
    assert path.read_text() == "precious"


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory"):
        bind(UnixListener(tmp_path / "nowhere" / "chat.sock"))
