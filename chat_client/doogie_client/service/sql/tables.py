"""The tables, all with the prefix ``doogie_``, so that they live beside a host application's in one database.

``migrations/`` makes them; a test holds that both say the same.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware point in time. PostgreSQL knows such; in SQLite it is text in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def ordered_text() -> Text:
    """Text in the order of its code points, whatever order the database's language has: what SQLite does anyway."""
    return Text().with_variant(Text(collation="C"), "postgresql")


VERSION_TABLE = "doogie_alembic_version"

metadata = MetaData()

configs = Table(
    "doogie_configs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", ordered_text(), nullable=False),
    Column("server_name", String(31), nullable=False),
    Column("user_id", String(255), nullable=False, index=True),
    Column("key_id", String(16), nullable=False),  # what command and env are encrypted with
    Column("command", Text, nullable=False),  # encrypted JSON: command and args
    Column("env", Text, nullable=False),  # JSON: names, and encrypted values
    Column("secrets", Text, nullable=False),  # JSON: names
    Column("mounts", Text, nullable=False),  # JSON: names
    Column("enabled", Boolean, nullable=False),
    Column("description", Text),
    Column("shared", Boolean, nullable=False),
    Column("container_id", Text),
    Column("status", String(16), nullable=False),
    Column("error_message", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("name_key", name="uq_doogie_configs_name_key"),
    UniqueConstraint("server_name", name="uq_doogie_configs_server_name"),
)

encryption = Table(
    "doogie_encryption",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="ck_doogie_encryption_one_row"), primary_key=True),
    Column("key_id", String(16), nullable=False),  # of the key that every writer must use
)

sqlite_metadata = MetaData()

journal = Table(
    "doogie_changes",  # what NOTIFY is in PostgreSQL
    sqlite_metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("change", String(16), nullable=False),
    Column("config_id", String(64), nullable=False),
    sqlite_autoincrement=True,  # no number is ever given twice
)
