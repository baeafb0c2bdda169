"""The engine's multiplexed attach stream, undone. Pure; no I/O.

Source: Docker Engine API 1.41, ``POST /containers/{id}/attach``: each payload is preceded by eight bytes, the
stream's number, three zeros and the payload's length as a big-endian 32-bit number.
"""

HEADER_BYTES = 8


class Demultiplexer:
    """Strips the headers from an attachment that carries one output stream; payloads come out as they arrive."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> list[memoryview]:
        """The payload bytes in ``data``, in order, as views into it; a payload may come in several pieces."""
        view = memoryview(data)
        pieces: list[memoryview] = []
        position, end = 0, len(data)
        while position < end:
            if self._left == 0:
                missing = HEADER_BYTES - len(self._header)
                self._header += view[position : position + missing]
                position += missing
                if len(self._header) == HEADER_BYTES:
                    self._left = int.from_bytes(self._header[4:])
                    self._header.clear()
            else:
                piece = view[position : position + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                position += len(piece)
        return pieces
