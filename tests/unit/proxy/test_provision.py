"""What ``doogie-proxy init`` makes, for whom, and what it never replaces."""

import os
from pathlib import Path
from stat import S_IMODE

import pytest

from doogie_proxy.auth import Caller, caller_of_token, hash_token
from doogie_proxy.identity import Keyring
from doogie_proxy.policy_file import load
from doogie_proxy.provision import Owners, provision

ROOT = os.geteuid() == 0
# Only root can give files away; who is not root keeps them all.
OWNERS = Owners(10000, 10001, 10002) if ROOT else Owners(os.geteuid(), os.geteuid(), os.getegid())


class Place:
    """Where the tests provision: the three places of compose.yaml, below one directory."""

    def __init__(self, root: Path) -> None:
        self.config = root / "config"
        self.token = root / "token" / "token"
        self.socket = root / "socket"
        self.state = root / "state"
        self.policy = self.config / "policy.yaml"
        self.key = self.config / "signing.key"

    def provision(self) -> list[str]:
        return list(provision(self.config, self.token, self.socket, self.state, OWNERS))

    def contents(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.policy, self.key, self.token)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_everything_has_the_mode_and_the_owner_that_is_documented(place: Place) -> None:
    place.provision()
    proxy, chat, gid = OWNERS.proxy_uid, OWNERS.chat_uid, OWNERS.gid
    expected = {
        place.config: (0o750, proxy, proxy),
        place.policy: (0o640, proxy, proxy),
        place.key: (0o600, proxy, proxy),
        place.token.parent: (0o750, chat, gid),
        place.token: (0o400, chat, gid),
        place.socket: (0o2750, proxy, gid),
        place.state: (0o700, proxy, proxy),
    }
    for path, (mode, uid, group) in expected.items():
        status = path.stat()
        assert (S_IMODE(status.st_mode), status.st_uid) == (mode, uid), path
        assert status.st_gid == (group if ROOT or group != proxy else status.st_gid), path


def test_the_starter_policy_admits_the_token_that_was_made(place: Place) -> None:
    place.provision()
    token = place.token.read_text().strip()
    assert caller_of_token(load(place.policy), token) == Caller("chat", hash_token(token))
    assert token not in place.policy.read_text()
    Keyring.load(place.key)


def test_what_is_there_is_kept(place: Place) -> None:
    place.provision()
    before = place.contents()
    lines = place.provision()
    assert place.contents() == before
    assert [line for line in lines if line.endswith("kept")] == [
        f"{place.key} kept",
        f"{place.token} kept",
        f"{place.policy} kept",
    ]


def test_an_operators_own_policy_is_kept(place: Place) -> None:
    place.provision()
    place.policy.write_text("version: 1\nclients: {}\nrules: []\n")
    place.provision()
    assert load(place.policy).rules == []


def test_a_lost_key_is_made_anew_and_nothing_else_changes(place: Place) -> None:
    place.provision()
    before = place.contents()
    place.key.unlink()
    place.provision()
    after = place.contents()
    assert after.pop("signing.key") != before.pop("signing.key")
    assert after == before


def test_a_lost_policy_is_made_for_the_token_that_is_there(place: Place) -> None:
    place.provision()
    token = place.token.read_text()
    place.policy.unlink()
    place.provision()
    assert place.token.read_text() == token
    assert caller_of_token(load(place.policy), token.strip()) == Caller("chat", hash_token(token.strip()))


def test_a_lost_token_is_not_replaced_behind_the_policys_back(place: Place) -> None:
    place.provision()
    place.token.unlink()
    with pytest.raises(ValueError, match="put the client's token there, or make a new one and add its hash"):
        place.provision()
    assert not place.token.exists()


def test_modes_that_were_widened_are_narrowed_again(place: Place) -> None:
    place.provision()
    place.socket.chmod(0o777)
    place.provision()
    assert S_IMODE(place.socket.stat().st_mode) == 0o2750


def test_no_secret_is_printed(place: Place) -> None:
    printed = "\n".join(place.provision() + place.provision())
    assert place.token.read_text().strip() not in printed
    assert place.key.read_text().strip() not in printed


def test_nothing_is_ever_readable_to_others_whatever_the_umask(place: Place) -> None:
    previous = os.umask(0)
    try:
        place.provision()
    finally:
        os.umask(previous)
    for path in (place.policy, place.key, place.token, place.config, place.socket, place.state, place.token.parent):
        assert S_IMODE(path.stat().st_mode) & 0o007 == 0, path


def test_a_link_in_the_place_of_the_token_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.token.parent.mkdir(parents=True)
    place.token.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        place.provision()
    assert not (tmp_path / "elsewhere").exists()
