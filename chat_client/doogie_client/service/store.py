"""``ConfigStore``: what the service needs of a database. ``SqlConfigStore`` is the one that is shipped."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from doogie_client.errors import DoogieError
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, Status


class StoreError(DoogieError):
    """Base of what a store raises on purpose."""


class ConfigNotFound(StoreError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """No configuration has this id."""


class NameTaken(StoreError):  # noqa: N818 - as above
    """Another configuration has this name."""


class VersionConflict(StoreError):  # noqa: N818 - as above
    """The configuration was edited meanwhile: read it again."""


class StoreUnavailable(StoreError):  # noqa: N818 - as above
    """The database cannot be reached, or did not answer in time."""


class Change(StrEnum):
    """What happened to a configuration."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    STATUS = "status"


@dataclass(frozen=True)
class ConfigChanged:
    """News of one configuration, from this or another process. ``config_id`` None: some were missed, look at all."""

    change: Change
    config_id: str | None


class ConfigStore(Protocol):
    """Stored configurations. Every call is atomic and durable when it returns; all raise ``StoreUnavailable``."""

    async def create(self, new: NewConfig, user_id: str) -> ConfigRecord:
        """Store a configuration, with an id and a ``server_name`` of its own. Raises ``NameTaken``."""
        ...

    async def get(self, config_id: str) -> ConfigRecord | None:
        """The configuration of this id."""
        ...

    async def list(
        self,
        *,
        user_id: str | None = None,
        visible_to: str | None = None,
        enabled: bool | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[ConfigRecord]:
        """Configurations by name: of one owner; of one owner or shared; enabled or not; ``limit`` after that name."""
        ...

    async def update(self, config_id: str, update: ConfigUpdate, *, version: int | None = None) -> ConfigRecord:
        """Change what ``update`` sets. Raises ``ConfigNotFound``, ``NameTaken``, ``VersionConflict``."""
        ...

    async def delete(self, config_id: str, *, version: int | None = None) -> bool:
        """Remove a configuration; whether there was one. Raises ``VersionConflict``."""
        ...

    async def set_status(
        self, config_id: str, status: Status, *, container_id: str | None, error_message: str | None
    ) -> None:
        """Note what was seen of the server; not an edit, so neither ``version`` nor ``updated_at`` change."""
        ...

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[ConfigChanged]]:
        """The news of all processes from entering on, without end."""
        ...

    def lock(self, name: str, *, wait: bool = True) -> AbstractAsyncContextManager[bool]:
        """Hold ``name`` for one process at a time, over all of them; False, not held, where ``wait`` is False.

        It is let go when its holder dies.
        """
        ...
