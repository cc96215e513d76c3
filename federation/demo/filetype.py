"""The client's half of the file type model: bytes of a file in, the row of numbers it classifies.

Input: the content of a file. Output: the features that version 1 or 2 of `filetype` wants as its
tensor `bytes`, and the label that a row of scores means. The two versions differ in length and
datatype, which is what a real version change looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """How many bytes of the start, the middle and the end of a file a version looks at."""

    datatype: str  # of the tensor, in words of the Open Inference Protocol
    begin: int
    middle: int
    end: int
    block: int = 4096  # bytes read at each end, before white space is cut off
    padding: int = 256  # a value that no byte has

    @property
    def length(self) -> int:
        """Return the number of features."""
        return self.begin + self.middle + self.end


SPECS = {
    1: FeatureSpec(datatype="FP32", begin=512, middle=512, end=512),
    2: FeatureSpec(datatype="INT32", begin=1024, middle=0, end=1024),
}


def filetype_features(content: bytes, spec: FeatureSpec) -> list[int]:
    """Return the features of a file's content for one version."""
    if spec.middle and len(content) < 2 * spec.block + spec.middle:
        head = tail = inner = content.strip()
    else:
        head, tail = content[: spec.block].lstrip(), content[-spec.block :].rstrip()
        cut = min(spec.block, len(content))
        inner = content[cut - len(head) : len(content) - cut + len(tail)]
    start, finish = head[: spec.begin], tail[-spec.end :]
    middle = _centre(inner, spec.middle)
    left = (spec.middle - len(middle)) // 2
    right = spec.middle - len(middle) - left
    pad = [spec.padding]
    return [
        *(*start, *pad * (spec.begin - len(start))),
        *(*pad * left, *middle, *pad * right),
        *(*pad * (spec.end - len(finish)), *finish),
    ]


def label_of(scores: Sequence[float], labels: Sequence[str]) -> str:
    """Return the label of the highest score."""
    return labels[max(range(len(scores)), key=scores.__getitem__)]


def _centre(content: bytes, size: int) -> bytes:
    start = max(0, (len(content) - size) // 2)
    return content[start : start + size]
