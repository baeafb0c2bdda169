"""Configurations and their servers: DoogieBot's routes under ``/mcp``."""

from enum import StrEnum
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, HTTPException, status
from pydantic import JsonValue

from chatbot.deps import Admin, CurrentUser, Mcp
from chatbot.schemas import MCPServerConfigCreate, MCPServerConfigResponse
from doogie_client.service import ConfigRecord as MCPServerConfig
from doogie_client.service import ConfigStatus as MCPServerStatus
from doogie_client.service import ConfigUpdate as MCPServerConfigUpdate
from doogie_client.service import NewConfig, ServerConfig

T = TypeVar("T")

router = APIRouter(prefix="/mcp")


class Action(StrEnum):
    """What is done to a server."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


def known(found: T | None) -> T:
    """What was asked for, where there is such a configuration; it may be gone by the time."""
    if found is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "MCP configuration not found")
    return found


async def get_own(config_id: str, user: CurrentUser, mcp: Mcp) -> MCPServerConfig:
    """The configuration that the path names; another user's is the same answer as none."""
    config = await mcp.get_config_by_id(config_id)
    return known(config if config is not None and config.user_id == user.id else None)


Own = Annotated[MCPServerConfig, Depends(get_own)]


@router.post("/configs", response_model=MCPServerConfigResponse)
async def create(config: MCPServerConfigCreate, user: Admin, mcp: Mcp) -> MCPServerConfig:
    """Store a configuration."""
    command = ServerConfig(**config.model_dump(exclude={"name"}, exclude_none=True))
    return (await mcp.create_config(NewConfig(name=config.name, config=command), user.id)).masked()


@router.get("/configs", response_model=list[MCPServerConfigResponse])
async def get_all(user: CurrentUser, mcp: Mcp) -> list[MCPServerConfig]:
    """The caller's configurations."""
    return [config.masked() for config in await mcp.get_configs_by_user(user.id) if config.user_id == user.id]


@router.get("/configs/export/json")
async def export(user: CurrentUser, mcp: Mcp) -> dict[str, JsonValue]:
    """A file for an MCP host on a desktop."""
    return await mcp.generate_mcp_config_json(user.id)


@router.get("/configs/{config_id}", response_model=MCPServerConfigResponse)
async def get(config: Own) -> MCPServerConfig:
    """One of the caller's configurations."""
    return config.masked()


@router.put("/configs/{config_id}", response_model=MCPServerConfigResponse)
async def update(change: MCPServerConfigUpdate, user: Admin, config: Own, mcp: Mcp) -> MCPServerConfig:
    """Change a configuration: what is given, and no more."""
    return known(await mcp.update_config(config.id, change)).masked()


@router.delete("/configs/{config_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete(user: Admin, config: Own, mcp: Mcp) -> None:
    """Remove a configuration, its server first."""
    await mcp.delete_config(config.id)


@router.get("/configs/{config_id}/status")
async def get_status(config: Own, mcp: Mcp) -> MCPServerStatus:
    """How its server is."""
    return known(await mcp.get_config_status(config.id))


@router.post("/configs/{config_id}/{action}")
async def operate(action: Action, user: Admin, config: Own, mcp: Mcp) -> MCPServerStatus:
    """Start, stop or restart its server."""
    if action is Action.START and not config.config.enabled:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Cannot start disabled MCP server")
    operations = {Action.START: mcp.start_server, Action.STOP: mcp.stop_server, Action.RESTART: mcp.restart_server}
    server = known(await operations[action](config.id))
    if server.status == "error":
        detail = f"Failed to {action} MCP server: {server.error_message}"
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, detail)
    return server
