"""Whether clients of one version of a model can go on with another.

Input: two packages. Output: what differs in their inputs and outputs, in words.
"""

from collections.abc import Iterator

from federation.contract.package import ModelPackage, TensorSpec


def differences(old: ModelPackage, new: ModelPackage) -> tuple[str, ...]:
    """Return what a client would notice, in words; empty if nothing."""
    told = list(_tensors("input", old.inputs, new.inputs))
    told += _tensors("output", old.outputs, new.outputs)
    if old.protocol is not new.protocol:
        told.append(f"protocol: {old.protocol}, then {new.protocol}")
    return tuple(told)


def _tensors(kind: str, old: tuple[TensorSpec, ...], new: tuple[TensorSpec, ...]) -> Iterator[str]:
    before = {tensor.name: _shape(tensor) for tensor in old}
    after = {tensor.name: _shape(tensor) for tensor in new}
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, "none"), after.get(name, "none")
        if was != now:
            yield f"{kind} {name!r}: {was}, then {now}"


def _shape(tensor: TensorSpec) -> str:
    return f"{tensor.datatype}{list(tensor.shape)}"
