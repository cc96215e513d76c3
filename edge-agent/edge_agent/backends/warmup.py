"""One real inference before a version may get traffic, and more of them to see what it can do.

Input: the inputs that a model declares and the package's sample. Output: a request; a sample that
is shorter than its tensor is repeated, a missing one is zeros. An answer that does not look like
one is a BackendError.
"""

import asyncio
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_agent.backends.base import BackendError
from edge_agent.backends.engine_http import Answer, Binary, EngineHttp, one_line
from edge_agent.serving.sse import EventReader
from edge_agent.serving.v2_terms import (
    HEADER_LENGTH,
    BadRequest,
    Tensor,
    pack_values,
    parse_object,
)

DEFAULT_PROMPT = "Hello"
_TOKENS = 2


async def warm_tensors(
    http: EngineHttp, path: str, inputs: Sequence[Tensor], sample: Mapping[str, Any]
) -> None:
    """Send the sample to an infer path; raises BackendError unless outputs come back."""
    await ask_tensors(http, path, sample_request(inputs, sample))


async def ask_tensors(http: EngineHttp, path: str, body: Binary) -> None:
    """Send a request to an infer path; raises BackendError unless outputs come back."""
    answer = await http.ask("POST", path, body=body)
    if answer.status != 200:
        raise BackendError(f"the warm-up inference failed: {reason_of(answer)}")
    if b'"outputs"' not in answer.body:
        raise BackendError(f"the warm-up inference gave no outputs: {one_line(answer.text)}")


async def warm_text(http: EngineHttp, path: str, sample: Mapping[str, Any]) -> None:
    """Ask a generate_stream path for a few tokens; raises BackendError unless one comes."""
    await ask_text(http, path, sample, tokens=_TOKENS)


async def ask_text(
    http: EngineHttp, path: str, sample: Mapping[str, Any], *, tokens: int
) -> tuple[int, float]:
    """Ask for so many tokens; return how many came, and after how many seconds the first one did.

    Raises BackendError unless one comes.
    """
    prompt = sample.get("prompt") or sample.get("text_input") or DEFAULT_PROMPT
    body = {"text_input": str(prompt), "max_tokens": tokens}
    reader, events, first_s = EventReader(), 0, 0.0
    now_s = asyncio.get_running_loop().time
    started_s = now_s()
    async with http.open("POST", path, body=body) as response:
        if response.status != 200:
            answer = Answer(response.status, await response.read())
            raise BackendError(f"the warm-up inference failed: {reason_of(answer)}")
        async for chunk in response.content.iter_any():
            for event in _events(reader, chunk):
                if "error" in Answer(200, event.encode()).json():
                    raise BackendError(f"the warm-up inference failed: {one_line(event)}")
                first_s = first_s or now_s() - started_s
                events += 1
    if not events:
        raise BackendError("the warm-up inference answered nothing")
    return events, first_s


def _events(reader: EventReader, chunk: bytes) -> list[str]:
    try:
        return reader.feed(chunk)
    except ValueError as error:
        raise BackendError(f"the warm-up inference failed: {error}") from None


def sample_request(inputs: Sequence[Tensor], sample: Mapping[str, Any]) -> Binary:
    """Return a binary V2 request with one sample; a dimension of any length counts as one."""
    described, blobs = [], []
    for tensor in inputs:
        shape = [1 if size < 0 else size for size in tensor.shape]
        try:
            blobs.append(_data(tensor, math.prod(shape), sample.get(tensor.name)))
        except BadRequest as error:
            raise BackendError(f"the package's warm-up sample: {error.message}") from None
        entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}
        described.append({**entry, "parameters": {"binary_data_size": len(blobs[-1])}})
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    headers = {HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
    return Binary(b"".join([head, *blobs]), headers)


def reason_of(answer: Answer) -> str:
    """Return the engine's own message of a failure, in one line."""
    try:
        told = parse_object(answer.body.removeprefix(b"data: ")).get("error")
    except BadRequest:
        told = None
    return f"{one_line(str(told or answer.text)) or 'no message'} (status {answer.status})"


def _data(tensor: Tensor, count: int, sample: Any) -> bytes:
    zero: Any = {"BYTES": "", "BOOL": False}.get(tensor.datatype, 0)
    given = zero if sample is None or sample == [] else sample
    flat = list(_flat(given if isinstance(given, list) else [given]))
    whole, rest = divmod(count, len(flat))
    return b"".join(
        pack_values(values, tensor.name, tensor.datatype) * times
        for values, times in ((flat, whole), (flat[:rest], 1))
    )


def _flat(data: list[Any]) -> Iterator[Any]:
    for element in data:
        if isinstance(element, list):
            yield from _flat(element)
        else:
            yield element
