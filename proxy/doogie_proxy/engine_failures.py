"""What can go wrong between the proxy and the engine. ``engine.py`` raises nothing else.

EngineFailure
├── EngineUnavailable   the socket refuses, or the connection broke
├── EngineTimeout       no answer within the timeout
├── NotFound            404: the container is gone (or, at its start, what it refers to)
├── NoSuchImage         404 of an image
├── EngineConflict      409: the name is taken, or a removal is under way
└── EngineError         any other refusal; its text is for the log, never for a client
"""


class EngineFailure(Exception):  # noqa: N818  # the root of a tree whose leaves are named for what happened
    """Something between the proxy and the engine went wrong; the text is for the log."""


class EngineUnavailable(EngineFailure):
    """The engine's socket refuses, or the connection broke."""


class EngineTimeout(EngineFailure):
    """The engine did not answer in time."""


class NotFound(EngineFailure):
    """The container is gone, or something that it refers to does not exist."""


class NoSuchImage(EngineFailure):
    """The image ``reference`` is not on the engine."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"no image {reference}")
        self.reference = reference


class EngineConflict(EngineFailure):
    """The name is taken, or the container is being removed."""


class EngineError(EngineFailure):
    """Any other refusal of the engine."""
