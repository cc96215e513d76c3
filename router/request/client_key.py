"""What tells one client from another, so that it gets the same version each time in a rollout.

Input: requests and calls of models that are between two versions. Output: the request's Split. The
key is the session that the client names, else the user of an OpenAI request, else a V2 sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from federation.runtime.backoff import Dice
from router.policy import split
from router.policy.retry import Failed
from router.policy.table import Resolved
from router.request import body as bodies
from router.request.call import SESSION_HEADER, Call

_LONGEST = 200  # characters of a key that count
_LONGEST_BODY = 1024 * 1024  # of JSON in which a key is looked for
_SEQUENCE = b"sequence_id"


class _Parameters(msgspec.Struct):
    sequence_id: str | int = ""


class _Client(msgspec.Struct):
    """The parts of a request that may name its client."""

    user: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    parameters: _Parameters | None = None


_CLIENT = msgspec.json.Decoder(_Client)


def settle(
    resolved: Resolved, key: str, dice: Dice, before: Resolved | None, failed: Sequence[Failed]
) -> Resolved:
    """Return a resolved reference with the split of one request; `before`, as it was at the last
    attempt, which `failed`."""
    if resolved.split is None:
        return resolved
    was = before.split if before is not None else None
    return replace(
        resolved, split=split.drawn(resolved.split, key, dice, before=was, failed=failed)
    )


def of_call(call: Call, resolved: Resolved, dice: Dice) -> Resolved:
    """Return a resolved reference as it is for this request over HTTP."""
    key, before = "", call.resolved
    if before is None or before.split is None:
        key = http_key(call.request.headers, call.body, openai=call.model_in_body)
    return settle(resolved, key, dice, before, tuple(call.failed))


def http_key(headers: Mapping[str, str], body: bodies.Body, *, openai: bool) -> str:
    """Return the key of a request's client, "" if it has none."""
    if session := headers.get(SESSION_HEADER, ""):
        return session[:_LONGEST]
    text = bodies.json_part(body, headers)
    if body.rest is not None or len(text) > _LONGEST_BODY:
        return ""
    if not openai and _SEQUENCE not in text:
        return ""
    try:
        found = _CLIENT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if openai:
        return (found.user or found.prompt_cache_key or found.safety_identifier or "")[:_LONGEST]
    sequence = found.parameters.sequence_id if found.parameters else ""
    return str(sequence)[:_LONGEST] if sequence else ""


def grpc_key(session: bytes, message: bytes) -> str:
    """Return the key of the client of a call, whose first message begins like this."""
    if session:
        return session[:_LONGEST].decode("latin-1")
    at = message.find(_SEQUENCE) + len(_SEQUENCE)
    if at < len(_SEQUENCE) or message[at : at + 1] != b"\x12" or at + 2 > len(message):
        return ""
    value = message[at + 2 : at + 2 + message[at + 1]]  # field 2 of a map's entry
    return value[:_LONGEST].hex()
