"""Golden inputs: what a version must answer before it gets traffic, written by its owner.

Input: the file that model.yaml names with `golden`, one JSON object per line; answers of an engine.
Output: GoldenInputs, or Invalid with the line of the first mistake; what is wrong with an answer.

A line for a tensor model, with flat data as in the Open Inference Protocol V2:
    {"inputs": {"x": [1, 2]}, "outputs": {"y": [0.5]}, "shapes": {"x": [1, 2]}}
`shapes` is needed where the model's shape does not follow from the number of values. For text:
    {"prompt": "2 + 2 =", "max_tokens": 4, "seed": 1, "text": " 4"}
or, instead of `text` (the whole answer), "contains", or "matches" (a regular expression).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.contract.errors import Invalid
from federation.contract.package import ModelPackage, TensorSpec
from federation.contract.types import ModelProtocol

MAX_INPUTS = 256
MAX_BYTES = 8 << 20  # of the file
_MAX_TOKENS = 4096
_TENSOR_KEYS = {"name", "inputs", "outputs", "shapes"}
_TEXT_KEYS = {"name", "prompt", "max_tokens", "seed", "temperature", "text", "contains", "matches"}
_EXPECTATIONS = ("text", "contains", "matches")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenInput:
    """One input and what it must give. Of a text model `prompt` is set, of others `inputs`."""

    name: str
    inputs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    prompt: str = ""
    max_tokens: int = 16
    seed: int | None = None
    temperature: float = 0.0
    text: str | None = None
    contains: str = ""
    matches: str = ""


def parse_golden(text: str, package: ModelPackage, *, source: str) -> tuple[GoldenInput, ...]:
    """Parse a file of golden inputs; raises Invalid with line and reason."""
    if len(text) > MAX_BYTES:
        raise Invalid(f"{source}: golden inputs take {MAX_BYTES >> 20} MiB at most.")
    found: list[GoldenInput] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_parse(line, package, f"line {number}"))
        except ValueError as error:
            raise Invalid(f"{source} line {number}: {error}") from None
    if not found:
        raise Invalid(f"{source}: there are no golden inputs in it.", hint="One JSON per line.")
    if len(found) > MAX_INPUTS:
        raise Invalid(f"{source}: {len(found)} golden inputs; {MAX_INPUTS} at most.")
    return tuple(found)


def wrong_tensors(wanted: GoldenInput, given: Mapping[str, Sequence[Any]], tolerance: float) -> str:
    """Return what is wrong with an answer, in words; "" if it is right.

    Numbers may differ by `tolerance`, relative to the expected one (below 1: absolutely).
    """
    for name, values in wanted.outputs.items():
        if name not in given:
            return f"it gave no output {name!r}"
        answer = given[name]
        if len(answer) != len(values):
            return f"output {name!r} has {len(answer)} values, not {len(values)}"
        for index, (expected, got) in enumerate(zip(values, answer, strict=True)):
            if not _alike(expected, got, tolerance):
                return f"output {name!r}[{index}] is {_short(got)}, not {_short(expected)}"
    return ""


def wrong_text(wanted: GoldenInput, given: str) -> str:
    """Return what is wrong with an answer, in words; "" if it is right."""
    if wanted.text is not None and given != wanted.text:
        return f"it answered {_short(given)}, not {_short(wanted.text)}"
    if wanted.contains not in given:
        return f"its answer {_short(given)} does not contain {_short(wanted.contains)}"
    if wanted.matches and re.search(wanted.matches, given) is None:
        return f"its answer {_short(given)} does not match {_short(wanted.matches)}"
    return ""


def _parse(line: str, package: ModelPackage, name: str) -> GoldenInput:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  # the file is wrong, not a type
    text = package.protocol is ModelProtocol.TEXT
    keys = _TEXT_KEYS if text else _TENSOR_KEYS
    if unknown := sorted(document.keys() - keys):
        raise ValueError(f"{unknown[0]!r} is not known here, only {', '.join(sorted(keys))}")
    name = str(document.get("name") or name)
    return _text_input(document, name) if text else _tensor_input(document, name, package)


def _text_input(document: Mapping[str, Any], name: str) -> GoldenInput:
    prompt, told = document.get("prompt"), [key for key in _EXPECTATIONS if key in document]
    if not isinstance(prompt, str) or not prompt:
        raise ValueError("prompt must be a text")
    if not told or not all(isinstance(document[key], str) for key in told):
        raise ValueError(f"one of {', '.join(_EXPECTATIONS)} must be a text")
    tokens, seed = document.get("max_tokens", 16), document.get("seed")
    if not (type(tokens) is int and 1 <= tokens <= _MAX_TOKENS):
        raise ValueError(f"max_tokens must be 1 to {_MAX_TOKENS}")
    if not (seed is None or type(seed) is int):
        raise ValueError("seed must be a whole number")
    temperature = document.get("temperature", 0.0)
    if type(temperature) not in (int, float) or not 0 <= temperature <= 2:
        raise ValueError("temperature must be 0 to 2")
    matches = str(document.get("matches", ""))
    try:
        re.compile(matches)
    except re.error as error:
        raise ValueError(f"matches is no regular expression: {error}") from None
    return GoldenInput(
        name=name,
        prompt=prompt,
        max_tokens=tokens,
        seed=seed,
        temperature=float(temperature),
        text=document.get("text"),
        contains=document.get("contains", ""),
        matches=matches,
    )


def _tensor_input(document: Mapping[str, Any], name: str, package: ModelPackage) -> GoldenInput:
    inputs, outputs = _values(document, "inputs"), _values(document, "outputs")
    specs = {spec.name: spec for spec in package.inputs}
    if not specs:
        raise ValueError("model.yaml must declare the inputs for that")
    if missing := sorted(specs.keys() - inputs.keys()):
        raise ValueError(f"there is no input {missing[0]!r}")
    known = {spec.name for spec in package.outputs} or outputs.keys()
    for kind, given, names in (("input", inputs, specs), ("output", outputs, known)):
        if strange := sorted(given.keys() - set(names)):
            raise ValueError(f"the model has no {kind} {strange[0]!r}")
    shapes = document.get("shapes", {})
    if not isinstance(shapes, dict):
        raise ValueError("shapes must be an object")  # noqa: TRY004  # as above
    return GoldenInput(
        name=name,
        inputs=inputs,
        outputs=outputs,
        shapes={
            each: _shape(specs.get(each), shapes.get(each), len(values), each)
            for each, values in inputs.items()
        },
    )


def _values(document: Mapping[str, Any], key: str) -> dict[str, tuple[Any, ...]]:
    tensors = document.get(key)
    if not isinstance(tensors, dict) or not tensors:
        raise ValueError(f"{key} must be an object of lists")
    found = {}
    for name, values in tensors.items():
        if not isinstance(values, list) or any(isinstance(v, list | dict) for v in values):
            raise ValueError(f"{key}: {name!r} must be a flat list")
        found[name] = tuple(values)
    return found


def _shape(spec: TensorSpec | None, told: object, count: int, name: str) -> tuple[int, ...]:
    """Return a shape of `count` values: as told, else as the model says if one way is open."""
    if told is not None:
        if not isinstance(told, list) or not all(type(size) is int and size > 0 for size in told):
            raise ValueError(f"the shape of {name!r} must be a list of sizes")
        shape = tuple(told)
    elif spec is None:
        raise ValueError(f"input {name!r} needs a shape")
    else:
        fixed = math.prod(size for size in spec.shape if size > 0)
        open_ways = sum(size < 0 for size in spec.shape)
        if open_ways > 1:
            raise ValueError(f"input {name!r} needs a shape: more than one size is open")
        rest = count // fixed if fixed else 0
        shape = tuple(rest if size < 0 else size for size in spec.shape)
    if math.prod(shape) != count:
        raise ValueError(f"input {name!r} has {count} values, its shape is {list(shape)}")
    return shape


def _alike(expected: object, got: object, tolerance: float) -> bool:
    numbers = all(type(each) in (int, float) for each in (expected, got))
    if not numbers or type(expected) is int:
        return expected == got
    wanted, had = float(expected), float(got)  # type: ignore[arg-type]  # both are numbers
    return abs(wanted - had) <= tolerance * max(abs(wanted), 1.0)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
