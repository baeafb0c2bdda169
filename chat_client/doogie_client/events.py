"""The proxy's event stream, read: server-sent events (WHATWG HTML, section 9.2) as wire models.

snapshot ──► ServerList     all there is; forget what was before
server   ──► ServerEvent    one server as it is now
problem  ──► raised         why the stream ends
"""

from collections.abc import AsyncGenerator

import aiohttp

from doogie_client.errors import ProxyUnavailable, problem_response
from doogie_contract.models import ServerEvent, ServerList
from doogie_contract.problems import Problem

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""What a snapshot of some thousand servers takes, with what each wrote last."""

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0


async def read_events(response: aiohttp.ClientResponse, where: str) -> AsyncGenerator[ServerList | ServerEvent, None]:
    """The events of one connection. It never just ends.

    Raises:
        ProblemResponse: the proxy has ended it, and says why.
        ProxyUnavailable: the connection was lost.
        pydantic.ValidationError, aiohttp.ClientError: it is not what a proxy sends.
    """
    event, data = "", ""
    async for line in response.content:
        name, _, value = line.decode().removesuffix("\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            data = value
        elif not name and data:  # a blank line: the event is whole
            if event == "snapshot":
                yield ServerList.model_validate_json(data)
            elif event == "server":
                yield ServerEvent.model_validate_json(data)
            elif event == "problem":
                raise problem_response(Problem.model_validate_json(data))
            event = data = ""
    raise ProxyUnavailable(f"the event stream of the proxy at {where} was lost")
