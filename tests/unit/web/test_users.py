"""The users file: what it says, where it is wrong, and whom a request's token makes its sender."""

import hashlib
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.web.users import Role, User, UsersFile, UsersFileError, hash_token, new_token

ALICE, BOB, NEXT = "token-of-alice", "token-of-bob", "next-token-of-alice"


def users_file(directory: Path, text: str) -> Path:
    path = directory / "users.yaml"
    path.write_text(text)
    return path


def two_users(directory: Path) -> Path:
    return users_file(
        directory,
        "version: 1\n"
        "users:\n"
        f"  alice: {{role: admin, token_sha256: [{hash_token(ALICE)!r}, {hash_token(NEXT)!r}]}}\n"
        f"  bob: {{role: user, token_sha256: [{hash_token(BOB)!r}]}}\n",
    )


async def caller(users: UsersFile, authorization: str | None) -> User | None:
    headers = {} if authorization is None else {"Authorization": authorization}
    return await users(make_mocked_request("GET", "/", headers=headers))


def fault(directory: Path, text: str) -> str:
    """The one line that this file is refused with, after its path."""
    path = users_file(directory, text)
    with pytest.raises(UsersFileError) as caught:
        UsersFile(path)
    [line] = caught.value.lines
    assert line.startswith(f"{path}:")
    return line.removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("token", "user"),
    [(ALICE, User("alice", Role.ADMIN)), (NEXT, User("alice", Role.ADMIN)), (BOB, User("bob", Role.USER))],
)
async def test_a_token_is_of_its_user(tmp_path: Path, token: str, user: User) -> None:
    assert await caller(UsersFile(two_users(tmp_path)), f"Bearer {token}") == user


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {ALICE}",
        ALICE,
        f"Bearer {ALICE} ",
        f"Bearer {ALICE}x",
        "Bearer " + "a" * 513,
    ],
)
async def test_anything_else_is_nobodys(tmp_path: Path, authorization: str | None) -> None:
    assert await caller(UsersFile(two_users(tmp_path)), authorization) is None


async def test_the_scheme_is_compared_without_regard_to_case(tmp_path: Path) -> None:
    assert await caller(UsersFile(two_users(tmp_path)), f"bearer {BOB}") == User("bob", Role.USER)


async def test_a_hash_is_no_token(tmp_path: Path) -> None:
    assert await caller(UsersFile(two_users(tmp_path)), f"Bearer {hash_token(ALICE)}") is None


async def test_a_reload_forgets_who_is_gone_and_knows_who_is_new(tmp_path: Path) -> None:
    users = UsersFile(two_users(tmp_path))
    users_file(tmp_path, f"version: 1\nusers:\n  carol: {{role: user, token_sha256: [{hash_token(NEXT)!r}]}}\n")
    users.reload()
    assert await caller(users, f"Bearer {ALICE}") is None
    assert await caller(users, f"Bearer {NEXT}") == User("carol", Role.USER)
    assert len(users) == 1


async def test_a_reload_of_a_bad_file_leaves_all_as_it_was(tmp_path: Path) -> None:
    users = UsersFile(two_users(tmp_path))
    users_file(tmp_path, "version: 2\n")
    with pytest.raises(UsersFileError):
        users.reload()
    assert await caller(users, f"Bearer {ALICE}") == User("alice", Role.ADMIN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match="cannot be read"):
        UsersFile(tmp_path / "nowhere.yaml")


HASH = "a" * 64
ONE = f"version: 1\nusers:\n  a:\n    role: user\n    token_sha256: ['{HASH}']\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "1: a users file is a mapping that begins with version: 1"),
        ("- a\n", "1: a users file is a mapping that begins with version: 1"),
        ("version: 1\nusers: {}\nadmins: {}\n", "3: admins: unknown key"),
        ("version: 2\nusers: {}\n", "1: version: Input should be 1"),
        ("version: 1\n", "1: users: Field required"),
        (ONE.replace("role: user", "role: root"), "4: users.a.role: Input should be 'admin' or 'user'"),
        (
            ONE.replace(f"'{HASH}'", ""),
            "5: users.a.token_sha256: List should have at least 1 item after validation, not 0",
        ),
        (
            ONE.replace(f"['{HASH}']", "\n      - secret"),
            "6: users.a.token_sha256.0: String should match pattern '^[0-9a-f]{64}$'",
        ),
        (ONE.replace("  a:", "  12:"), "3: users.12: Input should be a valid string"),
        (f"{ONE}    email: a@example\n", "6: users.a.email: unknown key"),
        (
            f"{ONE}  b:\n    role: user\n    token_sha256: ['{HASH}']\n",
            "1: users a and b have the same token: give each its own",
        ),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, text: str, line: str) -> None:
    assert fault(tmp_path, text) == line


def test_a_user_given_twice_is_refused_where_it_is_given_again(tmp_path: Path) -> None:
    entry = f"{{role: user, token_sha256: ['{HASH}']}}"
    assert fault(tmp_path, f"version: 1\nusers:\n  a: {entry}\n  a: {entry}\n").startswith('4: found duplicate key "a"')


def test_a_file_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert fault(tmp_path, "version: 1\nusers: [\n").startswith("3:")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=512))
def test_hashes_are_sha_256(token: str) -> None:
    assert hash_token(token) == hashlib.sha256(token.encode()).hexdigest()


def test_new_tokens_can_stand_in_a_header_and_differ() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 and token.isascii() for token in tokens)
