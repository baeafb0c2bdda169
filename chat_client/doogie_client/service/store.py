"""``ConfigStore``: what the service needs of a database. ``service.sql`` has the one that is shipped, for SQL.

StoreError
├── ConfigNotFound
├── NameTaken
├── VersionConflict
├── MaskedValue           a value is MASK, and nothing is stored that it could stand for
├── StoreUnavailable      connection, time-out, disk: what is tried again later may work
│   └── LockLost          a lock was lost while it was held
└── StoreMisconfigured    what an operator must mend: URL, key file, version of the schema
    ├── SchemaTooNew
    └── SecretsUnreadable
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from doogie_client.errors import DoogieError
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, Status


class StoreError(DoogieError):
    """Base of what a store raises on purpose. No message holds a value of an environment."""


class ConfigNotFound(StoreError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """No configuration has this id."""


class NameTaken(StoreError):  # noqa: N818 - as above
    """Another configuration has this name, or one that differs from it in case alone."""


class VersionConflict(StoreError):  # noqa: N818 - as above
    """The configuration was edited meanwhile: read it again."""


class MaskedValue(StoreError, ValueError):  # noqa: N818 - as above
    """A variable was given as ``MASK``, "what is stored", but nothing is stored for it: send the value itself."""


class StoreUnavailable(StoreError):  # noqa: N818 - as above
    """The database cannot be reached, or did not answer in time.

    It is not known whether a change that was under way took effect; if it did, it did as a whole.
    """


class LockLost(StoreUnavailable):
    """The connection that held the lock was lost, so another process may hold it now."""


class StoreMisconfigured(StoreError):  # noqa: N818 - as above
    """What only an operator can mend: the database's URL, the key file, the database itself."""


class SchemaTooNew(StoreMisconfigured):
    """The database was migrated by a newer version of this software; this one does not touch it."""


class SecretsUnreadable(StoreMisconfigured):
    """A configuration's values cannot be decrypted: their key is not in the key file, or they were altered."""


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


@dataclass(frozen=True)
class ConfigEdit:
    """An update of one configuration as it was at ``version``."""

    config_id: str
    update: ConfigUpdate
    version: int


class ConfigStore(Protocol):
    """Stored configurations. Every call is atomic and durable when it returns; all raise ``StoreUnavailable``.

    A call that is cancelled may have taken effect, as a whole, or not. Names are compared without regard to case, in
    the order as well.
    """

    async def create(self, new: NewConfig, user_id: str) -> ConfigRecord:
        """Store a configuration, with an id and a ``server_name`` of its own. Raises ``NameTaken``, ``MaskedValue``."""
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
        """Change what ``update`` sets. One that changes nothing is no edit: ``version`` stays.

        Raises ``ConfigNotFound``, ``NameTaken``, ``VersionConflict``, ``MaskedValue``.
        """
        ...

    async def save_all(self, changes: Sequence[NewConfig | ConfigEdit], user_id: str) -> Sequence[ConfigRecord]:
        """Store new ones, which are of this user, and change others: all of them in this order, or none.

        Raises what ``create`` and ``update`` do. Whoever saves several gives them in the order of their names: two who
        lock the same ones in different orders would end each other.
        """
        ...

    async def delete(self, config_id: str, *, version: int | None = None) -> bool:
        """Remove a configuration; whether there was one. Raises ``VersionConflict``."""
        ...

    async def set_status(
        self, config_id: str, status: Status, *, container_id: str | None, error_message: str | None
    ) -> None:
        """Note what was seen of the server; not an edit, so neither ``version`` nor ``updated_at`` change.

        Nothing happens where there is no such configuration (any more), or where it says so already. Of a message the
        first 4,000 characters are kept.
        """
        ...

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[ConfigChanged]]:
        """The news of all processes, this one's too, from entering on; it ends when the store is closed.

        What happened just before may be among it.
        """
        ...

    def lock(
        self, name: str, *, wait: bool = True, on_lost: Callable[[], None] | None = None
    ) -> AbstractAsyncContextManager[bool]:
        """Hold ``name`` for one task of one process at a time; False, not held, where ``wait`` is False.

        A task that holds it already must not wait for it. It is let go when its holder dies. When it is lost while it
        is held (the connection to the database broke), ``on_lost`` is called; without one, the task that entered is
        cancelled in the body and ``LockLost`` raised from the ``async with``, as ``asyncio.timeout`` does.
        """
        ...
