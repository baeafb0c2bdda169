"""The chat side's web app: ``/api/v1/mcp`` on aiohttp, and the command ``doogie-chat``. Needs the extra ``[service]``.

app         ``make_app``: the app, alone or within a larger one
operations  the whole API, one row each; openapi makes ``/openapi.json`` of it
api         the handlers; models: what they take and answer; events: server-sent events
guard       what every request goes through; bodies, failures, problems: what comes in, what is refused
users       who is asking: the users file; viewer: what they may see; display: how it is shown
serve       ``doogie-chat serve``; settings, listen, workers, log: what it is made of
cli         the command; provision: its ``init``
"""

import sys


def main() -> None:
    """Entry point of ``doogie-chat``."""
    try:
        from doogie_client.web.cli import app
    except ModuleNotFoundError as exc:
        sys.exit(f"doogie-chat: {exc.name} is not installed: pip install 'doogie-client[service]'")
    app()
