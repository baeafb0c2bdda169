"""The routes of ``/api/v1/mcp``: authenticate, parse, ask the service, answer.

``OPERATIONS`` is the one table of them: the router and ``/openapi.json`` are both made from it.
"""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import hdrs, web
from mcp_types import CallToolResult
from pydantic import BaseModel, JsonValue, TypeAdapter
from yarl import URL

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.translate import translate
from doogie_client.errors import DoogieError
from doogie_client.service.records import ConfigRecord, ConfigStatus, ConfigUpdate, ServerConfig, Status
from doogie_client.service.service import MCPConfigService
from doogie_client.service.store import ConfigStore
from doogie_client.service.tools import ServerTool, anthropic_tools, find_tool, openai_tools
from doogie_client.web.bodies import BodyLimits, query, read_model, wanted_version
from doogie_client.web.events import News, stream
from doogie_client.web.failures import not_found, refusal_of, refusal_of_status
from doogie_client.web.guard import USER
from doogie_client.web.models import (
    Config,
    ConfigCreate,
    DryRun,
    McpConfigJson,
    ToolCall,
    ToolDefinitions,
    ToolList,
    Unavailable,
)
from doogie_client.web.operation import PREFIX, Access, Operation
from doogie_client.web.problems import ChatProblem, Kind, Refusal, invalid
from doogie_client.web.users import Authenticate, Role, User
from doogie_contract.models import ClientPolicy, Health
from doogie_contract.problems import ProblemType
