"""Just enough of protobuf's text format to take fields out of a config.pbtxt.

Input: the text. Output: the text without some of its top-level fields; strings, comments and nested
messages are respected, everything else stays as it was written.
"""

import re
from collections.abc import Collection

_TOKEN = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\#[^\n]*|[\w.+-]+|\s+|.""", re.DOTALL)
_CLOSING = {"{": "}", "[": "]", "<": ">"}


def without_fields(text: str, fields: Collection[str]) -> str:
    """Return `text` without the top-level fields of these names."""
    tokens = _TOKEN.findall(text)
    kept: list[str] = []
    at = depth = 0
    while at < len(tokens):
        token = tokens[at]
        if depth == 0 and token in fields:
            at = _after_value(tokens, at + 1)
            continue
        depth += (token in _CLOSING) - (token in _CLOSING.values())
        kept.append(token)
        at += 1
    return "".join(kept)


def quoted(text: str) -> str:
    """Return a string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _after_value(tokens: list[str], at: int) -> int:
    """Return where the value that starts at or after `at` has ended."""
    while at < len(tokens) and (tokens[at].isspace() or tokens[at] == ":"):
        at += 1
    depth = 0
    while at < len(tokens):
        depth += (tokens[at] in _CLOSING) - (tokens[at] in _CLOSING.values())
        at += 1
        if depth <= 0:
            break
    return at
