"""The engine's name of a version, replaced by the name that the client asked for.

Input: pieces of an engine's answer, where `filetype--v2` stands for version 2 of `filetype`.
Output: the same pieces with the name, and the version beside it, as the federation knows them.
Answers are never parsed whole for it: the name stands near the start of a JSON answer, and once in
each event of a stream.
"""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

WINDOW_BYTES = 64 * 1024  # how far into an answer the name is looked for
_LOOKAHEAD_BYTES = 96  # room after the name for `, "model_version": "..."`
_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Naming:
    """One version: the engine's name for it, and ours."""

    engine: str
    model: str
    version: int

    def in_head(self, data: bytes) -> bytes:
        """Return `data` with its first `"model_name"` or `"model"` field, if the engine's, ours."""
        match = self._field().search(data)
        if match is None:
            return data
        return b"".join((data[: match.start()], self._ours(match), data[match.end() :]))

    def is_decided(self, data: bytes) -> bool:
        """Return whether more bytes after `data` would change nothing in what `in_head` finds."""
        match = self._field().search(data)
        return match is not None and len(data) >= match.end() + _LOOKAHEAD_BYTES

    def in_text(self, data: bytes) -> bytes:
        """Return an error's text with the engine's name replaced wherever it stands."""
        return re.sub(rb"%s(?![0-9])" % re.escape(self.engine.encode()), self._model, data)

    def in_metadata(self, data: bytes) -> bytes:
        """Return a V2 metadata document under our name and with our version; raises ValueError."""
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004  # as json.loads for other nonsense
        document |= {"name": self.model, "versions": [str(self.version)]}
        return json.dumps(document).encode()

    async def in_events(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield an event stream with each event's name replaced, line by whole line."""
        held = b""
        async for chunk in chunks:
            lines, newline, held = (held + chunk).rpartition(b"\n")
            if newline:
                yield b"\n".join(self.in_head(line) for line in lines.split(b"\n")) + newline
            elif len(held) > _LINE_BYTES:
                yield held
                held = b""
        if held:
            yield self.in_head(held)

    @property
    def _model(self) -> bytes:
        return self.model.encode()

    def _field(self) -> re.Pattern[bytes]:
        return re.compile(
            rb'("model(?:_name)?"\s*:\s*")%s("(?:\s*,\s*"model_version"\s*:\s*")?)([^"\\]*)'
            % re.escape(self.engine.encode())
        )

    def _ours(self, match: re.Match[bytes]) -> bytes:
        before, between, version = match.groups()
        if b"model_version" in between:
            version = str(self.version).encode()
        return bytes(before + self._model + between + version)
