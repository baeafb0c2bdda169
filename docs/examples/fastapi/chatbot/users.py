"""``python -m chatbot.users NAME [--admin]``: add a user, and print the token that is shown this once."""

import argparse
import asyncio
import secrets
import sys
import uuid

from chatbot.database import Role, User, sessions
from chatbot.deps import hashed


async def add(name: str, role: Role) -> str:
    """Add a user; their token."""
    token = secrets.token_urlsafe(32)
    async with sessions.begin() as session:
        session.add(User(id=str(uuid.uuid4()), name=name, role=role, token_sha256=hashed(token)))
    return token


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="chatbot.users")
    parser.add_argument("name")
    parser.add_argument("--admin", action="store_const", const=Role.ADMIN, default=Role.USER, dest="role")
    arguments = parser.parse_args()
    sys.stdout.write(asyncio.run(add(arguments.name, arguments.role)) + "\n")


if __name__ == "__main__":
    main()
