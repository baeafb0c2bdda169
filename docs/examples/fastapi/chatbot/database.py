"""The application's own tables, in the database that the service has its tables in as well."""

import enum
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import datetime

from sqlalchemy import ForeignKey, func, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///chatbot.db")
"""``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``."""

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Base(DeclarativeBase):
    """The application's tables."""


class Role(enum.StrEnum):
    """What a user may do."""

    ADMIN = "admin"
    USER = "user"


class User(Base):
    """Somebody with a token."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[Role]
    token_sha256: Mapped[str] = mapped_column(unique=True)


class Message(Base):
    """One message of the one chat that each user has here."""

    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    role: Mapped[str]
    content: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def hashed(token: str) -> str:
    """What is stored of a token. It is random and long, so a plain hash will do."""
    return hashlib.sha256(token.encode()).hexdigest()


_url = make_url(DATABASE_URL)
engine = create_async_engine(_url.set(drivername=_DRIVERS[_url.get_backend_name()]))
sessions = async_sessionmaker(engine, expire_on_commit=False)


async def get_db() -> AsyncIterator[AsyncSession]:
    """A request's session."""
    async with sessions() as session:
        yield session
