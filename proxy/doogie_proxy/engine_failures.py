"""What can go wrong between the proxy and the engine. ``engine.py`` raises nothing else.

EngineFailure
├── EngineUnavailable   it cannot be reached, or the connection broke
│   └── EngineRefused   nobody listens at its socket
├── EngineVersion       no version of its API is one that this proxy speaks
├── EngineTimeout       no answer within the timeout
├── NotFound            404: the container is gone (or, at its start, what it refers to)
├── NoSuchImage         404 of an image
├── ImageNotPulled      the engine could not fetch it
├── EngineConflict      409: the name is taken, or a removal is under way
└── EngineError         any other refusal; its text is for the log, never for a client
"""


class EngineFailure(Exception):  # noqa: N818  # the root of a tree whose leaves are named for what happened
    """Something between the proxy and the engine went wrong; the text is for the log."""

    readiness = "the engine refuses what it is asked; the log says why"
    """What is said of it to everybody, while it keeps the proxy from being ready."""


class EngineUnavailable(EngineFailure):
    """The engine cannot be reached, or the connection broke."""

    readiness = "the engine cannot be reached"


class EngineRefused(EngineUnavailable):
    """Nobody listens at the engine's socket: it is down, or has made a new one in the place of that which we see."""


class EngineVersion(EngineFailure):
    """No version of the engine's API is one that this proxy speaks; the text is for everybody."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.readiness = text


class EngineTimeout(EngineFailure):
    """The engine did not answer in time."""

    readiness = "the engine does not answer"


class NotFound(EngineFailure):
    """The container is gone, or something that it refers to does not exist."""


class NoSuchImage(EngineFailure):
    """The image ``reference`` is not on the engine."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"no image {reference}")
        self.reference = reference


class ImageNotPulled(EngineFailure):
    """The image ``reference`` is not on the engine, and was not fetched; ``reason`` is for the client too."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"{reference} not pulled: {reason}")
        self.reference = reference
        self.reason = reason


class EngineConflict(EngineFailure):
    """The name is taken, or the container is being removed."""


class EngineError(EngineFailure):
    """Any other refusal of the engine."""
