"""The target: a real proxy on the real engine, with everything that it asks of the engine recorded."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.harness import ProxyUnderTest, policy_document, proxy_under_test, toolbox_rule


@pytest.fixture
async def target(engine: str, tmp_path: Path) -> AsyncIterator[ProxyUnderTest]:
    """A proxy with one strict rule, ``toolbox``: argument ``sleep``, environment variable ``GREETING``.

    It does not sweep while the test runs, so that all it asks of the engine is asked because of a request.
    """
    rule = toolbox_rule(args={"patterns": ["sleep"]})
    async with proxy_under_test(tmp_path, policy_document(rule), sweep_interval_s=3600) as running:
        yield running


@pytest.fixture
async def refusing(target: ProxyUnderTest) -> AsyncIterator[ProxyUnderTest]:
    """The same, in a test after which the engine must not have been asked to change anything."""
    yield target
    assert target.recorder.about_containers() == []
