"""Server-sent events: how a stream of JSON objects travels over HTTP.

Input: one event's data, or the bytes of a stream as they arrive. Output: its frame, or the data of
each event that is complete.
"""

CONTENT_TYPE = "text/event-stream"
MAX_EVENT_BYTES = 4 * 1024 * 1024
DONE = "[DONE]"  # how the OpenAI dialect marks the end


def frame(data: str) -> bytes:
    """Return one event; `data` is a single line."""
    return f"data: {data}\n\n".encode()


class EventReader:
    """Cuts a stream of bytes into events; holds what is not complete yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()  # no event ends in it: only what is added is searched
        self._cr = b""  # the last byte, if it may be half of a line end

    def __repr__(self) -> str:
        return f"EventReader({len(self._buffer) + len(self._cr)} bytes held)"

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes; what is no text is replaced.

        Raises ValueError if an event is longer than MAX_EVENT_BYTES.
        """
        chunk, self._cr = self._cr + chunk, b""
        if chunk.endswith(b"\r"):
            chunk, self._cr = chunk[:-1], b"\r"
        new = max(len(self._buffer) - 1, 0)
        self._buffer += chunk.replace(b"\r\n", b"\n")
        if self._buffer.find(b"\n\n", new) < 0:
            if len(self._buffer) > MAX_EVENT_BYTES:
                raise ValueError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
            return []
        *events, self._buffer = self._buffer.split(b"\n\n")
        return self._read(events)

    @staticmethod
    def _read(events: list[bytearray]) -> list[str]:
        found = []
        for event in events:
            text = event.decode(errors="replace")
            lines = [line for line in text.split("\n") if line.startswith("data:")]
            if lines:
                found.append("\n".join(line[5:].removeprefix(" ") for line in lines))
        return found
