"""Records as bytes: JSON, by msgspec.

Input: the records of `federation.policy.records`. Output: UTF-8 JSON and back. A field that a newer
version wrote is ignored; one that an older version did not write takes its default.
"""

import msgspec

from federation.contract.errors import Invalid
from federation.policy.records import PERSISTENT

_DECODERS: dict[str, msgspec.json.Decoder[object]] = {
    kind: msgspec.json.Decoder(record) for kind, record in PERSISTENT.items()
}


def encode(record: object) -> bytes:
    """Return a record as JSON."""
    return msgspec.json.encode(record)


def decode(kind: str, data: bytes) -> object:
    """Return the record of that kind; raises Invalid if this version cannot read it."""
    if (decoder := _DECODERS.get(kind)) is None:
        raise Invalid(
            f"the store holds records of kind {kind!r}, which this version does not know.",
            hint="Start the version that wrote it, or a newer one.",
        )
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(f"the store holds a {kind} that cannot be read: {error}.") from None
