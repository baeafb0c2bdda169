"""Brings the schema up to this version, once, however many processes start at the same time.

They wait for one another in the transaction itself: SQLite has one writer at a time; in PostgreSQL an advisory lock of
the transaction does it. So a migration that fails or is killed leaves nothing behind.

Alembic runs the modules of ``migrations/versions``, without an env.py: that would go by way of variables of the module
``alembic``, which a host application's migrations in the same process use as well. ``upgrade`` is given ``op`` instead.
"""

from collections.abc import Iterable

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.service.sql.database import Database
from doogie_client.service.sql.tables import VERSION_TABLE
from doogie_client.service.store import SchemaTooNew, StoreMisconfigured

_LOCK = 0x646F6F676965  # "doogie"


async def migrate(database: Database) -> None:
    """Make or alter the tables, if need be.

    Raises:
        SchemaTooNew: a newer version of this software did.
        StoreMisconfigured: the database cannot hold all text.
    """
    config = Config()
    config.set_main_option("script_location", "doogie_client.service.sql:migrations")
    scripts = ScriptDirectory.from_config(config)

    async def current(connection: AsyncConnection) -> bool:
        return await connection.run_sync(_is_current, scripts)

    async def upgrade(connection: AsyncConnection) -> None:
        if connection.dialect.name == "postgresql":
            encoding = await connection.scalar(text("SHOW server_encoding"))
            if encoding != "UTF8":
                raise StoreMisconfigured(f"{database.name} has the encoding {encoding}: create it with ENCODING 'UTF8'")
            await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        if not await current(connection):  # another process may have done it meanwhile
            await connection.run_sync(_upgrade, scripts)

    if not await database.read(current):
        await database.write(upgrade)


def _is_current(connection: Connection, scripts: ScriptDirectory) -> bool:
    version = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if version is not None:
        try:
            scripts.get_revision(version)
        except CommandError:
            raise SchemaTooNew(
                f"the database's tables are of version {version}, which this software does not know (its own is "
                f"{scripts.get_current_head()}): run the newer version that made them"
            ) from None
    return version == scripts.get_current_head()


def _upgrade(connection: Connection, scripts: ScriptDirectory) -> None:
    def steps(heads: tuple[str, ...], _: MigrationContext) -> Iterable[RevisionStep]:
        missing = list(scripts.iterate_revisions("head", heads, implicit_base=True))
        return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(missing)]

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "fn": steps})
    context.run_migrations(op=Operations(context))
