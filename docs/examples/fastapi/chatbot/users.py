"""``python -m chatbot.users NAME:ROLE …``: add users, and print their tokens, which are shown this once."""

import asyncio
import secrets
import sys
import uuid

from chatbot.database import Role, User, engine, hashed, sessions


async def add(names_and_roles: list[tuple[str, Role]]) -> list[str]:
    """Add all of these users, or none; their tokens."""
    tokens = [secrets.token_urlsafe(32) for _ in names_and_roles]
    async with sessions.begin() as session:
        for (name, role), token in zip(names_and_roles, tokens, strict=True):
            session.add(User(id=str(uuid.uuid4()), name=name, role=role, token_sha256=hashed(token)))
    await engine.dispose()
    return tokens


if __name__ == "__main__":
    users = [(name, Role(role)) for name, _, role in (user.partition(":") for user in sys.argv[1:])]
    sys.stdout.writelines(f"{token}\n" for token in asyncio.run(add(users)))
