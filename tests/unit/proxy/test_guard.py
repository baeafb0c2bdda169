"""What goes through ``guard`` beside answers and problems."""

import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from doogie_proxy.http import guard


async def test_client_that_goes_away_before_its_answer_is_no_internal_error() -> None:
    async def handler(_request: web.Request) -> web.Response:
        raise ClientConnectionResetError("Cannot write to closing transport")

    with capture_logs() as logs, pytest.raises(ConnectionResetError):
        await guard(make_mocked_request("GET", "/v1/servers", headers={"Host": "localhost"}), handler)
    assert [(log["event"], log["status"]) for log in logs] == [("request", None)]
