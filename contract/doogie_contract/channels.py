"""Framing of the ``v5.channel.k8s.io`` subprotocol: a channel byte, then the payload. Pure; no I/O.

Source: Kubernetes remote command, ``k8s.io/apimachinery/pkg/util/remotecommand`` (v5 added the close channel).

    stdin 0, resize 4, close 255 : client → proxy
    stdout 1, stderr 2, status 3 : proxy → client
"""

import json
from enum import IntEnum
from typing import Any, NamedTuple

SUBPROTOCOL_CHANNEL = "v5.channel.k8s.io"
SUBPROTOCOL_MCP = "mcp"


class Channel(IntEnum):
    """Values of a message's first byte."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4
    CLOSE = 255


class CloseCode(IntEnum):
    """WebSocket close codes of the stdio stream (RFC 6455 section 7.4; 4000 to 4999 are the application's own)."""

    NORMAL = 1000
    UNSUPPORTED_DATA = 1003
    ABNORMAL = 1006
    INVALID_DATA = 1007
    MESSAGE_TOO_BIG = 1009
    SERVICE_RESTART = 1012
    REVOKED = 4403
    HALF_CLOSE_UNAVAILABLE = 4405
    TAKEN_OVER = 4409
    EXITED_NON_ZERO = 4500
    ENGINE_LOST = 4503


class ChannelError(ValueError):
    """A message that is not of this framing."""


class Frame(NamedTuple):
    """One decoded message. ``payload`` is a view into the message: copy it to keep it."""

    channel: Channel
    payload: memoryview


def encode(channel: Channel, payload: bytes | bytearray | memoryview) -> bytes:
    """One binary WebSocket message."""
    return b"".join((channel.to_bytes(1), payload))


def encode_close(channel: Channel) -> bytes:
    """The message that half-closes ``channel`` (only stdin has a use)."""
    return bytes((Channel.CLOSE, channel))


def decode(message: bytes) -> Frame:
    """Split one binary message.

    Raises:
        ChannelError: the message is empty or its channel is not one of ``Channel``.
    """
    if not message:
        raise ChannelError("empty message: the first byte must be the channel")
    try:
        channel = Channel(message[0])
    except ValueError:
        raise ChannelError(f"unknown channel {message[0]}; known: {[int(c) for c in Channel]}") from None
    return Frame(channel, memoryview(message)[1:])


def encode_exit_status(code: int | None, message: str) -> bytes:
    """The status message, a ``metav1.Status``: Success for code 0, else Failure with the code as a cause.

    ``code`` is None when the engine could not tell it; then the reason is InternalError.
    """
    if code == 0:
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
    elif code is None:
        status = {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message}
    else:
        status = {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": message,
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    return encode(Channel.STATUS, json.dumps(status, separators=(",", ":")).encode())


class ExitStatus(NamedTuple):
    """What a status message says: the exit code, None when unknown, and the text with it."""

    code: int | None
    message: str


def decode_exit_status(payload: bytes | memoryview) -> ExitStatus:
    """Read a ``metav1.Status``.

    Raises:
        ChannelError: not a Status object.
    """
    try:
        status = json.loads(bytes(payload))
        if status["status"] == "Success":
            return ExitStatus(0, "")
        causes = (status.get("details") or {}).get("causes") or []
        code = next((int(c["message"]) for c in causes if c.get("reason") == "ExitCode"), None)
        return ExitStatus(code, str(status.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise ChannelError(f"not a metav1.Status: {exc}") from exc
