"""The application: ``uvicorn chatbot.main:app --workers 4``."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from chatbot.database import DATABASE_URL, engine
from chatbot.routes import chat, mcp, tools
from doogie_client.service import ServiceSettings, open_service


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
    """What lives as long as this worker process."""
    async with open_service(ServiceSettings(database_url=DATABASE_URL)) as service:
        yield {"mcp": service}
    await engine.dispose()


app = FastAPI(title="Chat backend", lifespan=lifespan)
app.include_router(mcp.router, prefix="/api/v1")
app.include_router(chat.router, prefix="/api/v1")
app.include_router(tools.router, prefix="/api/v1")


@app.get("/api/v1/health")
async def health() -> dict[str, str | int]:
    """Which worker process answers, and that it does."""
    return {"status": "healthy", "worker": os.getpid()}
