"""What a route is given: the session, the service, and who calls."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from chatbot.database import Role, User, get_db, hashed
from doogie_client import DoogieError
from doogie_client.service import MCPConfigService, NameTaken

Db = Annotated[AsyncSession, Depends(get_db)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def get_current_user(db: Db, credentials: Credentials) -> User:
    """Who sends the request."""
    found = None
    if credentials is not None:
        found = await db.scalar(select(User).where(User.token_sha256 == hashed(credentials.credentials)))
    if found is None:
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED, "Could not validate credentials", {"WWW-Authenticate": "Bearer"}
        )
    return found


CurrentUser = Annotated[User, Depends(get_current_user)]


async def get_current_admin(user: CurrentUser) -> User:
    """The same, if it is an admin."""
    if user.role is not Role.ADMIN:
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Only admin users can do this")
    return user


Admin = Annotated[User, Depends(get_current_admin)]


async def get_mcp(request: Request) -> AsyncIterator[MCPConfigService]:
    """The service; what it refuses becomes the answer."""
    try:
        yield request.state.mcp
    except (DoogieError, ValidationError) as exc:
        code = 409 if isinstance(exc, NameTaken) else 422 if isinstance(exc, ValueError) else 503
        raise HTTPException(code, str(exc)) from exc


Mcp = Annotated[MCPConfigService, Depends(get_mcp)]
