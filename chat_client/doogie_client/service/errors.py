"""What the service raises on purpose, beside what its store, its proxy and the translation of commands raise.

    DoogieError
    └── ServiceError
        ├── ConfigDisabled            the configuration is not to run
        ├── ServerNotRunning          enabled, but it does not run: start it
        ├── StopFailed                what runs could not be stopped, so nothing was changed
        ├── InvalidCall               arguments that are not a JSON object (also a ValueError)
        │   └── UnknownTool           the server has no tool of this name
        ├── SessionUnavailable        there is no session with the server and none can be had
        └── CallFailed                the call was sent, and no result came back
            ├── CallRefused           the server answered with a JSON-RPC error
            ├── CallTimedOut          no answer in time; the call alone was cancelled
            └── CallInterrupted       the server, or the way to it, ended: the call may have run

Until ``CallFailed`` nothing has reached the server. A ``CallFailed`` may have had its effect: nothing here calls again.
"""

from pydantic import JsonValue

from doogie_client.errors import DoogieError


class ServiceError(DoogieError):
    """Base of what the service itself raises."""


class ConfigDisabled(ServiceError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """The configuration is disabled: enable it first."""


class ServerNotRunning(ServiceError):  # noqa: N818 - as above
    """The server of an enabled configuration does not run; the message says how it ended."""


class StopFailed(ServiceError):  # noqa: N818 - as above
    """What runs could not be stopped, so the configuration was neither changed nor deleted. ``cause`` says why."""

    def __init__(self, name: str, cause: DoogieError) -> None:
        super().__init__(name, cause)
        self.name = name
        self.cause = cause

    def __str__(self) -> str:
        return f"the server of {self.name!r} could not be stopped, so nothing was changed: {self.cause}"


class InvalidCall(ServiceError, ValueError):  # noqa: N818 - as above
    """The call cannot be sent: its arguments are not a JSON object, or its tool's name is none."""


class UnknownTool(InvalidCall):
    """The server has no tool that is given to language models under this name."""


class SessionUnavailable(ServiceError):  # noqa: N818 - as above
    """No session with the server can be had: its handshake failed, or someone else is attached to it."""


class CallFailed(ServiceError):  # noqa: N818 - as above
    """The request was sent, and no result came back."""


class CallRefused(CallFailed):
    """The server answered with a JSON-RPC error: ``code``, ``message``, ``data`` (JSON-RPC 2.0 section 5.1)."""

    def __init__(self, code: int, message: str, data: JsonValue = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class CallTimedOut(CallFailed):
    """The server did not answer in time. It was told that the call is cancelled; the session goes on."""


class CallInterrupted(CallFailed):
    """The server, or the way to it, ended before its answer came. The call may have run: it was not sent again."""
