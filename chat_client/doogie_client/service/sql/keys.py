"""Encryption of what rests in the database, and the file that holds its keys (docs/decisions/0007).

AES-256-GCM. Each ciphertext is bound to the row and the field it belongs to: moved elsewhere it does not decrypt. A
key's id is derived from the key, so that an id that is known means a key that fits.

The key file has one key of 64 hex digits a line. The first is the one that ``rotate_keys`` moves to, and that a new
database begins with; all decrypt.
"""

import base64
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from doogie_client.service.store import StoreMisconfigured

KEY_BYTES = 32
NONCE_BYTES = 12

_KEY = re.compile(r"[0-9a-f]{64}")


class Keyring:
    """The keys by their ids; the first one given is ``first``."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.first = key_id(keys[0])

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._ciphers

    def encrypt(self, key_id: str, text: str, bound_to: Sequence[str]) -> str:
        """Ciphertext of ``text``, which decrypts with the same ``bound_to`` alone."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._ciphers[key_id].encrypt(nonce, text.encode(), _associated(bound_to))
        return base64.b64encode(nonce + sealed).decode("ascii")

    def decrypt(self, key_id: str, ciphertext: str, bound_to: Sequence[str]) -> str:
        """What ``encrypt`` was given.

        Raises:
            ValueError: it was altered, or comes from elsewhere.
        """
        sealed = base64.b64decode(ciphertext, validate=True)
        try:
            text = self._ciphers[key_id].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(bound_to))
        except InvalidTag:
            raise ValueError("the ciphertext was altered, or comes from elsewhere") from None
        return text.decode()


def key_id(key: bytes) -> str:
    """16 hex digits that say which key it is and nothing about it."""
    return hashlib.sha256(b"doogie key id\0" + key).hexdigest()[:16]


def new_key() -> str:
    """A fresh key as a line for the key file."""
    return os.urandom(KEY_BYTES).hex()


def _associated(bound_to: Sequence[str]) -> bytes:
    return json.dumps(["doogie", 1, *bound_to]).encode("ascii")


class KeyFile:
    """The key file, which none but its owner may be able to read. Its methods block, as small files do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: list[bytes] = []
        self._ring: Keyring | None = None

    def __str__(self) -> str:
        return str(self._path)

    def keyring(self) -> Keyring:
        """The keys, and those that were in the file before; read anew if it has changed.

        Raises:
            StoreMisconfigured: there is no such file, others can read it, or a line is no key.
        """
        try:
            with self._path.open(encoding="ascii", errors="replace") as file:
                about = os.fstat(file.fileno())
                seen = (about.st_ino, about.st_size, about.st_mtime_ns)
                if self._ring is None or seen != self._seen:
                    self._ring, self._seen = self._parse(file.read(), stat.S_IMODE(about.st_mode)), seen
        except OSError as exc:
            raise StoreMisconfigured(f"the key file {self} cannot be read: {exc.strerror}") from exc
        return self._ring

    def create(self) -> bool:
        """Make the file with one fresh key, mode 0600, unless it is there; whether it was made."""
        return self._put(new_key() + "\n", os.link)

    def add_key(self) -> None:
        """Put a fresh key first. The file is replaced at once; one reader or writer at a time is the caller's part."""
        self.keyring()  # or refuse
        self._put(f"{new_key()}\n{self._path.read_text(encoding='ascii')}", os.replace)

    def _parse(self, text: str, mode: int) -> Keyring:
        if mode & 0o077:
            raise StoreMisconfigured(f"the key file {self} has mode {mode:04o}, so others may use it: chmod 0600")
        lines = text.split()
        for number, line in enumerate(lines, start=1):
            if not _KEY.fullmatch(line):
                raise StoreMisconfigured(f"{self}: key {number} is not 64 lower-case hex digits")
        if not lines:
            raise StoreMisconfigured(f"the key file {self} has no key in it")
        keys = [bytes.fromhex(line) for line in lines]
        # What was read before a key was removed must still be readable afterwards.
        self._keys = keys + [key for key in self._keys if key not in keys]
        return Keyring(self._keys)

    def _put(self, text: str, place: Callable[[str, Path], None]) -> bool:
        """Write a file beside ours and move it there, so that nobody ever sees half of it."""
        try:
            descriptor, beside = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")  # 0600
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(descriptor)
                place(beside, self._path)
            except FileExistsError:
                return False
            finally:
                Path(beside).unlink(missing_ok=True)
        except OSError as exc:
            raise StoreMisconfigured(f"the key file {self} cannot be made: {exc.strerror}") from exc
        return True
