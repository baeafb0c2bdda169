import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.service.sql.keys import KEY_BYTES, KeyFile, Keyring, key_id
from doogie_client.service.store import StoreMisconfigured

ONE, OTHER = bytes(range(KEY_BYTES)), bytes(KEY_BYTES)
FIELD = ["id", "env", "TOKEN"]


def write(path: Path, text: str, mode: int = 0o600) -> KeyFile:
    path.write_text(text)
    path.chmod(mode)
    return KeyFile(path)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text()))
def test_what_is_encrypted_decrypts_to_itself_and_is_never_the_same_twice(text: str, field: list[str]) -> None:
    ring = Keyring([ONE])
    ciphertext = ring.encrypt(ring.first, text, field)
    assert ring.decrypt(ring.first, ciphertext, field) == text
    assert ring.encrypt(ring.first, text, field) != ciphertext


@pytest.mark.parametrize(
    "elsewhere",
    [
        ["other", "env", "TOKEN"],
        ["id", "env", "OTHER"],
        ["id", "command"],
        ["id", "env"],
        ["id", "env", "TOKEN", ""],
        ["idenv", "TOKEN"],
        ["id", 'env", "TOKEN'],
    ],
)
def test_a_ciphertext_that_is_moved_elsewhere_does_not_decrypt(elsewhere: list[str]) -> None:
    ring = Keyring([ONE])
    with pytest.raises(ValueError, match="altered, or comes from elsewhere"):
        ring.decrypt(ring.first, ring.encrypt(ring.first, "secret", FIELD), elsewhere)


def test_a_ciphertext_that_is_altered_or_cut_does_not_decrypt() -> None:
    ring = Keyring([ONE])
    ciphertext = ring.encrypt(ring.first, "secret", FIELD)
    other = {"A": "B"}
    altered = [ciphertext[:n] + other.get(ciphertext[n], "A") + ciphertext[n + 1 :] for n in range(len(ciphertext))]
    for wrong in [*altered, ciphertext[4:], ciphertext[:-4], "", "AAAA", "not base64!"]:
        with pytest.raises(ValueError, match=r".") as caught:
            ring.decrypt(ring.first, wrong, FIELD)
        assert "secret" not in str(caught.value)


def test_the_first_key_is_the_one_to_encrypt_with_and_all_decrypt() -> None:
    old = Keyring([OTHER])
    ciphertext = old.encrypt(old.first, "secret", FIELD)
    both = Keyring([ONE, OTHER])
    assert both.first == key_id(ONE)
    assert both.decrypt(key_id(OTHER), ciphertext, FIELD) == "secret"
    assert key_id(OTHER) in both
    assert key_id(OTHER) not in Keyring([ONE])


def test_a_key_file_is_made_once_by_whoever_comes_first_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(KeyFile(path).create())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyFile(path).keyring().first
    assert os.listdir(tmp_path) == ["store.key"]  # noqa: PTH208 - all of it, hidden files too


def test_a_key_that_is_added_comes_first_and_is_seen_by_who_has_read_the_file_before(tmp_path: Path) -> None:
    reader = KeyFile(tmp_path / "store.key")
    reader.create()
    before = reader.keyring()
    assert reader.keyring() is before
    KeyFile(tmp_path / "store.key").add_key()
    after = reader.keyring()
    assert after.first != before.first
    assert before.first in after
    assert (tmp_path / "store.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_removed_is_forgotten_by_who_reads_the_file_anew_not_by_who_knew_it(tmp_path: Path) -> None:
    keys = write(tmp_path / "store.key", f"{ONE.hex()}\n{OTHER.hex()}\n")
    keys.keyring()
    write(tmp_path / "store.key", f"{ONE.hex()}\n")
    assert key_id(OTHER) in keys.keyring()
    assert key_id(OTHER) not in KeyFile(tmp_path / "store.key").keyring()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    keys = write(tmp_path / "store.key", ONE.hex(), mode)
    with pytest.raises(StoreMisconfigured, match=rf"mode {mode:04o}.*chmod 0600"):
        keys.keyring()
    with pytest.raises(StoreMisconfigured, match="chmod 0600"):
        keys.add_key()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no key"),
        ("\n\n", "has no key"),
        (ONE.hex()[:-2], "key 1 is not 64"),
        (ONE.hex().upper(), "key 1 is not 64"),
        (f"{ONE.hex()}\n{OTHER.hex()}00", "key 2 is not 64"),
        ("ключ", "key 1 is not 64"),
    ],
)
def test_a_key_file_without_good_keys_is_refused_and_not_quoted(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(StoreMisconfigured, match=why) as caught:
        write(tmp_path / "store.key", text).keyring()
    assert not text.strip() or text.strip()[:16] not in str(caught.value)


def test_a_key_file_that_is_not_there_or_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreMisconfigured, match=r"store\.key cannot be read: No such file"):
        KeyFile(tmp_path / "store.key").keyring()
    with pytest.raises(StoreMisconfigured, match="cannot be read: Is a directory"):
        KeyFile(tmp_path).keyring()
    with pytest.raises(StoreMisconfigured, match="cannot be made: No such file"):
        KeyFile(tmp_path / "no" / "store.key").create()
