"""``Configurations``: create, edit and delete them, so that what runs is never other than what is stored.

edit, delete    the new command is translated ── what runs is ended ── the database is changed
                      refused: nothing happens      fails: nothing happens
"""

import structlog

from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.translate import translate
from doogie_client.service.lifecycle import Lifecycle
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig
from doogie_client.service.sql.rows import edited
from doogie_client.service.store import ConfigStore, NameTaken, VersionConflict

log = structlog.get_logger(__name__)


class Configurations:
    """What changes stored configurations. Whoever edits or deletes one has its turn (``Operations``)."""

    def __init__(self, *, store: ConfigStore, lifecycle: Lifecycle, catalogue: Catalogue) -> None:
        self._store = store
        self._lifecycle = lifecycle
        self._catalogue = catalogue

    async def create(self, new: NewConfig, user_id: str) -> ConfigRecord:
        """Store a configuration. Raises ``CommandRefused``, ``NameTaken``, ``MaskedValue``."""
        translate(new.config, self._catalogue)
        record = await self._store.create(new, user_id)
        log.info("config_created", config_id=record.id, server=record.server_name)
        return record

    async def update(self, config_id: str, update: ConfigUpdate, version: int | None) -> ConfigRecord | None:
        """Change a configuration; None where there is none.

        Raises:
            CommandRefused, StopFailed, NameTaken, VersionConflict, MaskedValue: nothing was changed.
        """
        before = await self._of_version(config_id, version)
        if before is None:
            return None
        after = edited(before, update)
        replaced = _command(before) != _command(after)
        if replaced:
            translate(after.config, self._catalogue)
        if replaced or (before.config.enabled and not after.config.enabled):
            await self._require_name(after, before)
            await self._lifecycle.end(before)
        record = await self._store.update(config_id, update, version=before.version)
        log.info("config_updated", config_id=record.id, server=record.server_name, version=record.version)
        return record

    async def delete(self, config_id: str, version: int | None) -> bool:
        """Remove a configuration; whether there was one. Raises ``StopFailed``, ``VersionConflict``."""
        record = await self._of_version(config_id, version)
        if record is None:
            return False
        await self._lifecycle.end(record)
        deleted = await self._store.delete(config_id, version=record.version)
        log.info("config_deleted", config_id=record.id, server=record.server_name)
        return deleted

    async def _of_version(self, config_id: str, version: int | None) -> ConfigRecord | None:
        """The configuration, before anything is stopped for a change. Raises ``VersionConflict``."""
        record = await self._store.get(config_id)
        if record is not None and version is not None and version != record.version:
            raise VersionConflict(f"{record.name!r} is at version {record.version}, not {version}: read it again")
        return record

    async def _require_name(self, after: ConfigRecord, before: ConfigRecord) -> None:
        """Raise ``NameTaken`` before anything is stopped for it; the store has the last word."""
        if after.name != before.name:
            for record in await self._store.list():
                if record.id != after.id and record.name.casefold() == after.name.casefold():
                    raise NameTaken(f"there is a configuration {after.name!r} already")


def _command(record: ConfigRecord) -> ServerCommand:
    """What of a configuration decides what runs."""
    return ServerCommand(**record.config.model_dump(include=set(ServerCommand.model_fields)))
