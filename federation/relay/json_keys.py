"""JSON objects that say a key twice: two readers may well believe two values.

Input: the bytes of a JSON object. Output: whether a key stands more than once at its top level,
however its letters are escaped. Only scans in C: a body of many megabytes costs milliseconds.
"""

import re
from functools import lru_cache

import msgspec

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def says_twice(document: bytes, key: str) -> bool:
    """Return whether a JSON object has `key` (letters only) more than once at its top level.

    Also True where another repeated key hides a `key` in a value that no reader of the last would
    see. Raises msgspec.DecodeError if the document is no JSON object.
    """
    pattern = _spelled(key)
    places = sum(1 for _ in pattern.finditer(document))
    if places < 2:
        return False
    seen = _MEMBERS.decode(document)
    inside = sum(1 for value in seen.values() for _ in pattern.finditer(value))
    return places > inside + (key in seen)


@lru_cache(maxsize=16)
def _spelled(key: str) -> re.Pattern[bytes]:
    """Match a member's name in every spelling that JSON allows."""
    letters = "".join(rf"(?:{letter}|\\u00(?i:{ord(letter):02x}))" for letter in key)
    # Before a name stands never a backslash; before a quote inside a string always one.
    return re.compile(rf'(?<!\\)"{letters}"[ \t\r\n]*:'.encode())
