"""Web apps over a real proxy on the real engine; databases as in ``tests/service``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.chat import Chat, chat_rules, chat_under_test
from tests.support.harness import ProxyUnderTest, policy_document, proxy_under_test


@pytest.fixture
async def chat_proxy(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy that lets the chat side start a sleeper and the MCP server ``time``."""
    async with proxy_under_test(tmp_path, policy_document(*chat_rules())) as running:
        yield running


@pytest.fixture
async def chat(chat_proxy: ProxyUnderTest, tmp_path: Path) -> AsyncIterator[Chat]:
    """A web app on SQLite."""
    async with chat_under_test(tmp_path, chat_proxy) as running:
        yield running
