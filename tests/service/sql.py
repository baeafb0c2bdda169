"""A look past the store, at its tables."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from doogie_client.service.sql.database import parse_url
from doogie_client.service.sql.postgres import connector


async def run_sql(database: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in one transaction; the rows of the last one."""
    url = parse_url(database)
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url)
    else:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connector(url))
    try:
        async with engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()
