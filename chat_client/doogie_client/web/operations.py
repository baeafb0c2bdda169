"""``OPERATIONS``: the whole API, one row each."""

from mcp_types import CallToolResult

from doogie_client.service.import_report import ImportReport, ImportRequest
from doogie_client.service.records import ConfigStatus, ConfigUpdate
from doogie_client.web.api import Api
from doogie_client.web.models import (
    Config,
    ConfigCreate,
    DryRun,
    McpConfigJson,
    ToolCall,
    ToolDefinitions,
    ToolList,
)
from doogie_client.web.operation import PREFIX, Access, Operation
from doogie_client.web.problems import ChatProblem, Kind
from doogie_contract.models import ClientPolicy, Health
from doogie_contract.problems import ProblemType

_PROXY: tuple[Kind, ...] = (
    ProblemType.ENGINE_ERROR,
    ProblemType.ENGINE_UNAVAILABLE,
    ProblemType.ENGINE_TIMEOUT,
    ChatProblem.PROXY_FAILED,
    ChatProblem.PROXY_UNAVAILABLE,
)
_START: tuple[Kind, ...] = (
    ChatProblem.CONFIG_DISABLED,
    ProblemType.POLICY_DENIED,
    ProblemType.SPEC_CONFLICT,
    ChatProblem.COMMAND_REFUSED,
    ProblemType.IMAGE_UNAVAILABLE,
    ChatProblem.SERVER_FAILED,
    *_PROXY,
)
_STOP: tuple[Kind, ...] = (ChatProblem.SERVER_FAILED, *_PROXY)
_DRY_RUN: tuple[Kind, ...] = (ProblemType.POLICY_DENIED, ChatProblem.COMMAND_REFUSED, *_PROXY)
_TOOLS: tuple[Kind, ...] = (
    ChatProblem.CONFIG_DISABLED,
    ChatProblem.SERVER_NOT_RUNNING,
    ProblemType.STDIO_BUSY,
    ChatProblem.CALL_REFUSED,
    ChatProblem.CALL_INTERRUPTED,
    ChatProblem.SESSION_UNAVAILABLE,
    ChatProblem.CALL_TIMED_OUT,
    *_PROXY,
)

OPERATIONS = (
    # ── configurations ───────────────────────────────────────────────────────────────────────────
    Operation(
        "GET",
        f"{PREFIX}/configs",
        Api.list_configs,
        "The configurations that the caller may see, by name",
        {200: list[Config]},
        query={"limit": "[1-9][0-9]{0,2}", "cursor": "[A-Za-z0-9_-]{1,600}"},
    ),
    Operation(
        "POST",
        f"{PREFIX}/configs",
        Api.create_config,
        "Store a configuration; it is not started",
        {200: Config},
        (ChatProblem.NAME_TAKEN, ChatProblem.COMMAND_REFUSED),
        body=ConfigCreate,
        access=Access.ADMIN,
    ),
    Operation(
        "POST",
        f"{PREFIX}/import",
        Api.import_configs,
        "Store the servers of another host's file; what cannot be stored comes back with its reasons",
        {200: ImportReport},
        body=ImportRequest,
        query={"atomic": "[01]", "dry_run": "[01]"},
        access=Access.ADMIN,
    ),
    Operation(
        "GET",
        f"{PREFIX}/configs/export/json",
        Api.export_configs,
        "The caller's own and shared enabled servers as a file for an MCP host on a desktop",
        {200: McpConfigJson},
    ),
    Operation(
        "GET",
        f"{PREFIX}/configs/json",
        Api.export_configs_short,
        "The same, where the old front end asks for it",
        {200: McpConfigJson},
    ),
    Operation(
        "POST",
        f"{PREFIX}/configs/dry-run",
        Api.dry_run,
        "What a configuration would start, and which rule would admit it; nothing is stored or started",
        {200: DryRun},
        _DRY_RUN,
        body=ConfigCreate,
        access=Access.ADMIN,
    ),
    Operation("GET", f"{PREFIX}/configs/{{id}}", Api.get_config, "One configuration", {200: Config}),
    Operation(
        "PUT",
        f"{PREFIX}/configs/{{id}}",
        Api.update_config,
        "Change what is given, and leave the rest; what runs is stopped if its command changes",
        {200: Config},
        (ChatProblem.NAME_TAKEN, ChatProblem.COMMAND_REFUSED, *_STOP),
        body=ConfigUpdate,
        conditional=True,
        access=Access.ADMIN,
    ),
    Operation(
        "DELETE",
        f"{PREFIX}/configs/{{id}}",
        Api.delete_config,
        "Stop what runs, then remove the configuration",
        {204: None},
        _STOP,
        conditional=True,
        access=Access.ADMIN,
    ),
    # ── servers ──────────────────────────────────────────────────────────────────────────────────
    Operation(
        "GET",
        f"{PREFIX}/configs/{{id}}/status",
        Api.get_status,
        "What the proxy says of the server now",
        {200: ConfigStatus},
    ),
    Operation(
        "POST",
        f"{PREFIX}/configs/{{id}}/start",
        Api.start_server,
        "Start the server, or find it running",
        {200: ConfigStatus},
        _START,
        access=Access.ADMIN,
    ),
    Operation(
        "POST",
        f"{PREFIX}/configs/{{id}}/stop",
        Api.stop_server,
        "Stop the server; answers when its container is gone",
        {200: ConfigStatus},
        _STOP,
        access=Access.ADMIN,
    ),
    Operation(
        "POST",
        f"{PREFIX}/configs/{{id}}/restart",
        Api.restart_server,
        "Stop the server, and start it as it is stored now",
        {200: ConfigStatus},
        _START,
        access=Access.ADMIN,
    ),
    Operation(
        "GET",
        f"{PREFIX}/configs/{{id}}/logs",
        Api.get_logs,
        "The last lines of the server's stderr",
        {200: "text/plain"},
        (ChatProblem.FORBIDDEN, ChatProblem.SERVER_NOT_RUNNING, *_PROXY),
        query={"tail": "[0-9]{1,5}"},
    ),
    Operation(
        "GET",
        f"{PREFIX}/configs/{{id}}/dry-run",
        Api.dry_run_config,
        "What a stored configuration would start, and which rule would admit it",
        {200: DryRun},
        _DRY_RUN,
        access=Access.ADMIN,
    ),
    # ── tools ────────────────────────────────────────────────────────────────────────────────────
    Operation(
        "GET",
        f"{PREFIX}/configs/{{id}}/tools",
        Api.list_config_tools,
        "The tools of a running server, as it describes them",
        {200: ToolList},
        _TOOLS,
    ),
    Operation(
        "POST",
        f"{PREFIX}/configs/{{id}}/call",
        Api.call_config_tool,
        "Call a tool of a running server; answers with all that it answers",
        {200: CallToolResult},
        _TOOLS,
        body=ToolCall,
    ),
    Operation(
        "GET",
        f"{PREFIX}/tools",
        Api.list_tools,
        "The tools of the caller's own and shared running servers, as definitions for a language model",
        {200: ToolDefinitions},
        query={"style": "mcp|openai|anthropic"},
    ),
    Operation(
        "POST",
        f"{PREFIX}/call",
        Api.call_tool,
        "Call one of these tools by the name that a language model knows it by",
        {200: CallToolResult},
        (ProblemType.NOT_FOUND, *_TOOLS),
        body=ToolCall,
    ),
    # ── news, the proxy's policy, and the app itself ─────────────────────────────────────────────
    Operation(
        "GET",
        f"{PREFIX}/events",
        Api.events,
        "Server-sent events: a snapshot of what the caller may see, then each change",
        {200: "text/event-stream"},
    ),
    Operation(
        "GET",
        f"{PREFIX}/policy",
        Api.policy,
        "What the proxy lets the chat side start",
        {200: ClientPolicy},
        _PROXY,
        access=Access.ADMIN,
    ),
    Operation("GET", "/healthz", Api.healthz, "The process answers", {200: Health}, access=Access.ANYONE),
    Operation(
        "GET",
        "/readyz",
        Api.readyz,
        "Database and proxy can be used",
        {200: Health, 503: Health},
        access=Access.ANYONE,
    ),
    Operation(
        "GET",
        "/openapi.json",
        Api.openapi,
        "This document",
        {200: "application/json"},
        access=Access.ANYONE,
    ),
)
