"""What goes wrong, as one tree. Every message says what, where, and what would be right.

ImagesError
├── DockerFailed      the docker command is missing, the engine does not answer, or it refused
├── BuildFailed       a stage of a recipe did not work: no network, no base image, a package's install script …
├── NotResolved       the registry has no such package or version, or not all that it needs
├── NoExecutable      it is not plain which program of the package to run
├── SmokeTestFailed   the image is built, but the server in it does not answer as an MCP server
├── NotWanted         what was asked for cannot be built, listed or removed; nothing was done
└── CatalogueNotWritten
"""


class ImagesError(Exception):
    """Base of all errors of this package; ``detail`` is what another program said, for people."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail.strip()


class DockerFailed(ImagesError):  # noqa: N818 - the tree's names say what happened, without "Error"
    """The docker command is missing, the engine does not answer, or it refused.

    ``known`` says that the message tells the reason, and what would be right.
    """

    def __init__(self, message: str, detail: str = "", *, known: bool = False) -> None:
        super().__init__(message, detail)
        self.known = known


class BuildFailed(ImagesError):  # noqa: N818 - as above
    """A stage of a recipe did not work."""


class NotResolved(ImagesError):  # noqa: N818 - as above
    """The registry has no such package or version, or not all that it needs."""


class NoExecutable(ImagesError):  # noqa: N818 - as above
    """It is not plain which program of the package to run."""


class SmokeTestFailed(ImagesError):  # noqa: N818 - as above
    """The server in the image does not answer as an MCP server."""


class NotWanted(ImagesError):  # noqa: N818 - as above
    """What was asked for cannot be done; nothing was."""


class CatalogueNotWritten(ImagesError):  # noqa: N818 - as above
    """The entry is not in the catalogue file, which is as it was."""
