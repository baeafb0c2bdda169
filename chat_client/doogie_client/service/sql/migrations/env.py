"""What Alembic runs: the migrations, on the connection and in the transaction that ``migrate.py`` has begun."""

from alembic import context

from doogie_client.service.sql.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite's as well: the transaction was begun with BEGIN IMMEDIATE
)
with context.begin_transaction():
    context.run_migrations()
