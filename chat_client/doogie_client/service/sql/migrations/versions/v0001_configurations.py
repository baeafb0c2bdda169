"""Configurations, the id of the key they are encrypted with, and in SQLite the journal of changes."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    """From nothing."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "doogie_configs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text(collation=None if on_sqlite else "C"), nullable=False),
        sa.Column("server_name", sa.String(31), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("env", sa.Text, nullable=False),
        sa.Column("secrets", sa.Text, nullable=False),
        sa.Column("mounts", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("container_id", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error_message", sa.Text),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("name_key", name="uq_doogie_configs_name_key"),
        sa.UniqueConstraint("server_name", name="uq_doogie_configs_server_name"),
    )
    op.create_index("ix_doogie_configs_user_id", "doogie_configs", ["user_id"])
    op.create_table(
        "doogie_encryption",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1", name="ck_doogie_encryption_one_row"), primary_key=True
        ),
        sa.Column("key_id", sa.String(16), nullable=False),
    )
    if on_sqlite:
        op.create_table(
            "doogie_changes",
            sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
            sa.Column("change", sa.String(16), nullable=False),
            sa.Column("config_id", sa.String(64), nullable=False),
            sqlite_autoincrement=True,
        )
