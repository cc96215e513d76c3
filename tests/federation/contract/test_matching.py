from dataclasses import replace

import pytest

from federation.contract.capacity import Pool, Resources, Sharing
from federation.contract.matching import gib, kinds_of, misfit, nearest_misfit

H100 = Pool(
    node="n",
    resource="nvidia.com/gpu",
    vendor="nvidia",
    product="NVIDIA-H100-80GB-HBM3",
    memory_mib=81_559,
    architecture="hopper",
    compute_capability="9.0",
    free=8,
)
SLICE = replace(H100, profile="1g.10gb", sharing=Sharing.PARTITION, memory_mib=9_728)
UNKNOWN = Pool(node="", resource="gpu", vendor="", free=1)


@pytest.mark.parametrize(
    ("pool", "needs", "fits"),
    [
        (H100, Resources(gpus=1), True),
        (H100, Resources(gpus=1, vendor="NVIDIA"), True),
        (H100, Resources(gpus=1, vendor="amd"), False),
        (H100, Resources(gpus=1, products=("*h100*",)), True),
        (H100, Resources(gpus=1, products=("*A100*", "*L4*")), False),
        (H100, Resources(gpus=1, products=("*A100*", "*H100*")), True),
        (H100, Resources(gpus=1, architecture="Hopper"), True),
        (H100, Resources(gpus=1, architecture="blackwell"), False),
        (H100, Resources(gpus=1, min_compute_capability="8.9"), True),
        (H100, Resources(gpus=1, min_compute_capability="10.0"), False),
        (
            replace(H100, compute_capability="10.0"),
            Resources(gpus=1, min_compute_capability="9.0"),
            True,
        ),
        (H100, Resources(gpus=1, memory_mib=81_559), True),
        (H100, Resources(gpus=1, memory_mib=81_560), False),
        (H100, Resources(gpus=1, profile="1g.*"), False),
        (SLICE, Resources(gpus=1, profile="1g.*gb"), True),
        (SLICE, Resources(gpus=1), True),
        (SLICE, Resources(gpus=2), False),
        (replace(SLICE, vendor="amd"), Resources(gpus=2), True),
        (SLICE, Resources(gpus=1, exclusive=True), True),
        (replace(H100, sharing=Sharing.MPS), Resources(gpus=1, exclusive=True), False),
        (replace(H100, sharing=Sharing.TIME_SLICING), Resources(gpus=1), True),
        (replace(H100, sharing=Sharing.TIME_SLICING), Resources(gpus=2), False),
        (UNKNOWN, Resources(gpus=1, memory_mib=1_000), True),
        (UNKNOWN, Resources(gpus=1, vendor="nvidia"), False),
        (UNKNOWN, Resources(gpus=1, min_compute_capability="1.0"), False),
    ],
)
def test_a_pool_fits_or_not(pool: Pool, needs: Resources, fits: bool) -> None:
    assert (misfit(pool, needs) is None) is fits


def test_the_nearest_pool_is_told() -> None:
    small = replace(H100, memory_mib=16 * 1024, node="node-3")
    smaller = replace(H100, memory_mib=8 * 1024, node="node-1")
    other = replace(H100, vendor="amd", node="node-2")
    needs = Resources(gpus=1, vendor="nvidia", memory_mib=24 * 1024)
    told = "needs 24 GiB, largest block is 16 GiB on node-3"
    assert nearest_misfit([smaller, small, other], needs) == told
    assert nearest_misfit([], needs) == ""
    assert nearest_misfit([UNKNOWN], needs) == "needs GPUs of nvidia, has some of an unknown vendor"


def test_sizes_are_told_as_people_say_them() -> None:
    assert (gib(512), gib(1024), gib(81_559)) == ("512 MiB", "1 GiB", "79.6 GiB")


def test_pools_that_differ_in_numbers_only_are_of_one_kind() -> None:
    other = replace(H100, node="m", free=1, total=9)
    listed = [H100, SLICE, other, replace(H100, compute_capability="9.1")]
    assert [numbers for _, numbers in kinds_of(listed)] == [[0, 2], [1], [3]]
