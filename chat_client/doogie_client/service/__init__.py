"""What a chat backend calls: stored configurations, servers started from them, and their tools. Extra ``[service]``.

    async with (
        await SqlConfigStore.open(url, key_file=…) as store,
        ProxyClient.from_env() as proxy,
        MCPConfigService(store=store, proxy=proxy, catalogue=Catalogue.load(), run_dir=…) as service,
    ):
        record = await service.create_config(NewConfig(name="time", config=ServerConfig(command="uvx", args=[…])), user)
        await service.start_server(record.id)
        await service.execute_mcp_tool(record.id, "call_1", "time__get_current_time", '{"timezone": "UTC"}')

The way of a call of a tool:

    service         the configuration, from the store: it exists and is enabled; arguments that JSON can say
    tools           the name that a language model used, back to the server's own
    sessions        who has the server's session: this process, a sibling, or nobody yet
      siblings      a sibling: over its unix socket in the run_dir, and on from here in that process
      run_dir       nobody: is the container fresh? If not: lifecycle restarts it. Then attach, and shake hands
    session         one request on the session that all calls share, with a time-out of its own
      doogie_client.mcp ─► doogie_client.stdio ─► the proxy ─► the container
    calls           what came back, or what went wrong, in the old shape (``call_tool``: as it is)

The way of a start, a stop, an edit:

    operations      wait for the configuration's turn, over all processes; then go through with it, whoever goes away
    configurations  edits: translate what is new, end what runs, change what is stored
    lifecycle       translate the command, ask the proxy, keep what was seen in the configuration
      status        what the proxy said, in the old front end's three words and in finer ones

renewal     keeps servers that nobody calls from being ended by the proxy's lease, while the service is there

opening     ``open_service``: all of it from settings, for the start of an application
store       ``ConfigStore``, what this needs of a database; ``sql`` is the one that is shipped
records     configurations and what is told about their servers
errors      what is raised, beside the errors of the store, the proxy and the translation
settings    everything that can be set from outside

importing   configuration files of other MCP hosts, in; ``import_report`` is what comes of it
exporting   and out
"""

from doogie_client.service.errors import (
    CallFailed,
    CallInterrupted,
    CallRefused,
    CallTimedOut,
    ConfigDisabled,
    InvalidCall,
    ServerNotRunning,
    ServiceError,
    SessionUnavailable,
    StopFailed,
    UnknownTool,
)
from doogie_client.service.opening import open_service
from doogie_client.service.records import (
    ConfigRecord,
    ConfigStatus,
    ConfigUpdate,
    NewConfig,
    ServerConfig,
    Status,
    StatusFault,
)
from doogie_client.service.service import MCPConfigService
from doogie_client.service.session import ToolResult
from doogie_client.service.settings import ServiceSettings
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import (
    ConfigNotFound,
    ConfigStore,
    NameTaken,
    StoreError,
    StoreUnavailable,
    VersionConflict,
)
from doogie_client.service.tools import ServerTool, anthropic_tools, find_tool, openai_tools

__all__ = [
    "CallFailed",
    "CallInterrupted",
    "CallRefused",
    "CallTimedOut",
    "ConfigDisabled",
    "ConfigNotFound",
    "ConfigRecord",
    "ConfigStatus",
    "ConfigStore",
    "ConfigUpdate",
    "InvalidCall",
    "MCPConfigService",
    "NameTaken",
    "NewConfig",
    "ServerConfig",
    "ServerNotRunning",
    "ServerTool",
    "ServiceError",
    "ServiceSettings",
    "SessionUnavailable",
    "SqlConfigStore",
    "Status",
    "StatusFault",
    "StopFailed",
    "StoreError",
    "StoreUnavailable",
    "ToolResult",
    "UnknownTool",
    "VersionConflict",
    "anthropic_tools",
    "find_tool",
    "open_service",
    "openai_tools",
]
