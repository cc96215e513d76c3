"""Server-sent events, the reading side (WHATWG HTML, section 9.2.6).

Input: the lines of a response body. Output: SseEvent values, one per dispatched event.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its name ("message" when the server named none), its id and its data."""

    event: str
    id: str
    data: str


def parse_events(lines: Iterable[bytes]) -> Iterator[SseEvent]:
    """Yield events as their closing blank line arrives; an unfinished one at the end is dropped."""
    event, last_id, data = "", "", list[str]()
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield SseEvent(event or "message", last_id, "\n".join(data))
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value
