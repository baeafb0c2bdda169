"""What Alembic runs for the application's own tables."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from chatbot.database import Base, engine


def not_the_services(name: str | None, kind: str, _parents: object) -> bool:
    """Leave the service's tables alone: without this, ``--autogenerate`` would want to drop them."""
    return not (kind == "table" and name is not None and name.startswith("doogie_"))


def run(connection: Connection) -> None:
    """Migrate."""
    context.configure(connection=connection, target_metadata=Base.metadata, include_name=not_the_services)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect as the application does."""
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
