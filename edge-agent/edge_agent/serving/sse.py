"""Server-sent events: how a stream of JSON objects travels over HTTP.

Input: one event's data, or the bytes of a stream as they arrive. Output: its frame, or the data of
each event that is complete.
"""

CONTENT_TYPE = "text/event-stream"
DONE = "[DONE]"  # how the OpenAI dialect marks the end


def frame(data: str) -> bytes:
    """Return one event; `data` is a single line."""
    return f"data: {data}\n\n".encode()


class EventReader:
    """Cuts a stream of bytes into events; holds what is not complete yet."""

    def __init__(self) -> None:
        self._buffer = b""

    def __repr__(self) -> str:
        return f"EventReader({len(self._buffer)} bytes held)"

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes."""
        self._buffer = (self._buffer + chunk).replace(b"\r\n", b"\n")
        *events, self._buffer = self._buffer.split(b"\n\n")
        found = []
        for event in events:
            lines = [line for line in event.decode().split("\n") if line.startswith("data:")]
            if lines:
                found.append("\n".join(line[5:].removeprefix(" ") for line in lines))
        return found
