"""Who a container belongs to: signed labels. Pure but for reading the key file.

The engine is the database: what must be known about a server after the proxy died is on its container. Anybody with
an image can bake a label into it, so the labels count only with a valid signature over all of them and the image id.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from doogie_contract.models import StartRequest
from doogie_proxy.policy import Lifetime, Stdio

PREFIX = "io.doogie."
LABEL_INSTANCE = PREFIX + "instance"
LABEL_CLIENT = PREFIX + "client"
LABEL_SERVER = PREFIX + "server"
LABEL_RULE = PREFIX + "rule"
LABEL_IMAGE = PREFIX + "image"
LABEL_SPEC = PREFIX + "spec"
LABEL_PLAN = PREFIX + "plan"
LABEL_LIFETIME = PREFIX + "lifetime"
LABEL_STDIO = PREFIX + "stdio"
LABEL_SIG = PREFIX + "sig"

_KEY = re.compile(r"(?:[0-9a-f]{2}){32,}")
_LIFETIME = TypeAdapter(Lifetime)
_STDIO = TypeAdapter(Stdio)


class IdentityError(Exception):
    """Labels that prove nothing: missing, malformed, of another image, or signed with no key of ours."""


class Keyring:
    """The signing keys. The first signs; all verify, so that a key can be replaced without stopping anything."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys:
            raise ValueError("at least one signing key is needed")
        self._keys = keys

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file: one key of at least 64 hex digits (32 bytes) a line, blank lines ignored.

        Raises:
            OSError: unreadable.
            ValueError: a line is not a key.
        """
        lines = path.read_text(encoding="ascii").split()
        for number, line in enumerate(lines, start=1):
            if not _KEY.fullmatch(line):
                raise ValueError(
                    f"{path}: key {number} is not 64 or more lower-case hex digits, in pairs (try doogie-proxy init)"
                )
        return cls([bytes.fromhex(line) for line in lines])

    @staticmethod
    def new_key() -> str:
        """A fresh key as a line for the key file."""
        return os.urandom(32).hex()

    def sign(self, purpose: str, message: str) -> str:
        """HMAC-SHA-256 (hex) of ``message``, separated by ``purpose`` from signatures made for anything else."""
        return _mac(self._keys[0], purpose, message)

    def verify(self, purpose: str, message: str, signature: str) -> bool:
        """Whether any key made ``signature``; constant time in the signature."""
        given = signature.encode()
        return any(hmac.compare_digest(_mac(key, purpose, message).encode(), given) for key in self._keys)


@dataclass(frozen=True)
class Identity:
    """What a container's labels say. ``spec`` is a keyed hash: it proves equality of requests and reveals nothing."""

    instance: str
    client: str
    server: str
    rule: str
    image: str
    spec: str
    plan: str
    lifetime: Lifetime
    stdio: Stdio

    @property
    def container_name(self) -> str:
        """For people; identity is never taken from it. Unique, as instance and client hold no ``-``."""
        return f"doogie-{self.instance}-{self.client}-{self.server}"

    def to_labels(self, keyring: Keyring, image_id: str) -> dict[str, str]:
        """The signed labels of a container made from ``image_id`` (``sha256:…``)."""
        labels = {
            LABEL_INSTANCE: self.instance,
            LABEL_CLIENT: self.client,
            LABEL_SERVER: self.server,
            LABEL_RULE: self.rule,
            LABEL_IMAGE: self.image,
            LABEL_SPEC: self.spec,
            LABEL_PLAN: self.plan,
            LABEL_LIFETIME: self.lifetime.model_dump_json(),
            LABEL_STDIO: self.stdio.model_dump_json(),
        }
        return {**labels, LABEL_SIG: keyring.sign("labels", _canonical([labels, image_id]))}

    @classmethod
    def from_labels(cls, labels: Mapping[str, str], keyring: Keyring, image_id: str) -> Self:
        """Read the labels of a container whose image is ``image_id``.

        Raises:
            IdentityError: they prove nothing.
        """
        # Ours are never empty: an empty one is the image's own, blanked when the container was made (spec.py).
        ours = {key: value for key, value in labels.items() if key.startswith(PREFIX) and key != LABEL_SIG and value}
        if not keyring.verify("labels", _canonical([ours, image_id]), labels.get(LABEL_SIG, "")):
            raise IdentityError("the labels' signature does not verify")
        try:
            return cls(
                instance=ours[LABEL_INSTANCE],
                client=ours[LABEL_CLIENT],
                server=ours[LABEL_SERVER],
                rule=ours[LABEL_RULE],
                image=ours[LABEL_IMAGE],
                spec=ours[LABEL_SPEC],
                plan=ours[LABEL_PLAN],
                lifetime=_LIFETIME.validate_json(ours[LABEL_LIFETIME]),
                stdio=_STDIO.validate_json(ours[LABEL_STDIO]),
            )
        except (KeyError, ValidationError) as exc:
            raise IdentityError(f"the labels are of another version: {exc}") from exc


def spec_mac(keyring: Keyring, request: StartRequest) -> str:
    """Keyed hash of a whole request, env values included: equal only for equal requests."""
    return keyring.sign("spec", _spec_text(request))


def same_spec(keyring: Keyring, request: StartRequest, mac: str) -> bool:
    """Whether ``mac`` was made, with any of our keys, from an equal request."""
    return keyring.verify("spec", _spec_text(request), mac)


def _spec_text(request: StartRequest) -> str:
    return _canonical(request.model_dump(mode="json"))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _mac(key: bytes, purpose: str, message: str) -> str:
    return hmac.new(key, f"{purpose}\0{message}".encode(), hashlib.sha256).hexdigest()
