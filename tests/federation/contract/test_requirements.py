import math

import pytest

from federation.contract.capacity import Resources
from federation.contract.requirements import capability, resource_problems


def test_versions_are_compared_as_numbers() -> None:
    assert capability("10.0") == (10, 0)
    assert capability("9") == (9, 0)
    assert (capability("10.0") or ()) > (capability("9.0") or ())
    assert capability("") is capability("9.0.1") is capability("sm_90") is None


@pytest.mark.parametrize(
    "fine",
    [
        Resources(),
        Resources(memory_mib=1),
        Resources(gpus=8, memory_mib=80_000, exclusive=True),
        Resources(gpus=1, fraction=0.25, min_compute_capability="8.9"),
    ],
)
def test_what_makes_sense_is_no_problem(fine: Resources) -> None:
    assert list(resource_problems(fine)) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Resources(gpus=-1), "negative"),
        (Resources(memory_mib=-1), "negative"),
        (Resources(gpus=10**9), "on one node"),
        (Resources(gpus=1, memory_mib=1 << 40), "MiB of one GPU"),
        (Resources(gpus=1, fraction=1.0), "between 0 and 1"),
        (Resources(gpus=1, fraction=-0.5), "between 0 and 1"),
        (Resources(gpus=1, fraction=math.nan), "between 0 and 1"),
        (Resources(gpus=2, fraction=0.5), "gpus: 1"),
        (Resources(fraction=0.5), "gpus: 1"),
        (Resources(gpus=1, fraction=0.5, exclusive=True), "keep one"),
        (Resources(gpus=1, min_compute_capability="new"), "like '9.0'"),
    ],
)
def test_what_makes_no_sense_is_told(wrong: Resources, told: str) -> None:
    assert told in next(resource_problems(wrong))
