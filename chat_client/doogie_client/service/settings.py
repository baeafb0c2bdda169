"""``ServiceSettings``: everything the service can be told from outside, each as ``DOOGIE_CHAT_<NAME>``.

How the proxy is reached is the client library's: ``DOOGIE_PROXY_URL``, ``DOOGIE_PROXY_TOKEN_FILE`` …
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_run_dir(settings: dict[str, Any]) -> Path:
    """Of this user and this database, and so the same in all processes of one application and of no other."""
    database = str(settings.get("database_url"))
    if database.startswith("sqlite"):
        database += f" in {Path.cwd()}"  # its path may be relative
    name = hashlib.sha256(database.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"doogie-chat-{os.getuid()}-{name}"


class ServiceSettings(BaseSettings):
    """Read from the environment; what is given as an argument goes first. Raises pydantic's ``ValidationError``."""

    model_config = SettingsConfigDict(env_prefix="DOOGIE_CHAT_", frozen=True, extra="ignore")

    database_url: str = Field(
        default="sqlite:///doogie-chat.db", description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
    )
    key_file: Path | None = Field(
        default=None, description="keys that encrypt environments in the database; None: made beside a SQLite file"
    )
    catalogue: Path | None = Field(
        default=None, description="the operator's own images for npx and uvx, before the shipped ones"
    )
    run_dir: Path = Field(
        default_factory=default_run_dir,
        description="where the worker processes of this host find each other; their user's alone (mode 0700)",
    )
    call_timeout_s: float = Field(
        default=60, gt=0, le=3600, description="for a tool to answer, where a call says nothing"
    )
    session_timeout_s: float = Field(default=30, gt=0, le=600, description="for a server to answer the MCP handshake")
    concurrent_starts: int = Field(default=4, ge=1, le=64, description="servers started at the same time at start-up")
    renew_interval_s: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="between two renewals of servers that nobody calls; less than any rule's `detached_ttl_s`",
    )
