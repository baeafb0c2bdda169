"""What the operator's files say: policy, secrets, signing keys. Read together, so that a reload is all or nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from doogie_proxy import policy_file
from doogie_proxy.identity import Keyring
from doogie_proxy.policy import Policy
from doogie_proxy.policy_file import ConfigurationError
from doogie_proxy.settings import Settings

MAX_SECRET_BYTES = 32 * 1024


@dataclass(frozen=True)
class Configuration:
    """One reading of the files. ``secrets`` holds values by the path they were read from."""

    policy: Policy
    secrets: dict[str, str]
    keyring: Keyring

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"Configuration(policy={self.policy!r})"

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Read everything anew.

        Raises:
            ConfigurationError: something cannot be read, or is not valid.
        """
        policy = policy_file.load(settings.policy)
        try:
            keyring = Keyring.load(settings.signing_key_file)
        except (OSError, ValueError) as exc:
            raise ConfigurationError([f"signing key: {exc}"]) from exc
        return cls(policy, read_secrets(policy), keyring)


def read_secrets(policy: Policy) -> dict[str, str]:
    """The values of all secrets that the policy names, by path; one newline at a file's end is not part of it.

    Raises:
        ConfigurationError: a file cannot be read, or cannot be the value of an environment variable.
    """
    values: dict[str, str] = {}
    faults = []
    for rule in policy.rules:
        for name, secret in rule.secrets.items():
            try:
                values[secret.file] = _read_secret(Path(secret.file))
            except (OSError, ValueError) as exc:
                faults.append(f"rules.{rule.name}.secrets.{name}: {secret.file}: {exc}")
    if faults:
        raise ConfigurationError(faults)
    return values


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"longer than {MAX_SECRET_BYTES} bytes")
    try:
        value = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not value or "\0" in value:
        raise ValueError("empty, or has a NUL byte: it cannot be the value of an environment variable")
    return value
