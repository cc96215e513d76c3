import pytest

from edge_agent.policy.kube.labels import BROKEN_MIG, Description, describe
from edge_agent.policy.kube.names import unit_of
from federation.contract.capacity import Sharing

MIG = "nvidia.com/mig-1g.5gb"


def _of(resource: str, labels: dict[str, str], total: int = 8) -> Description:
    unit = unit_of(resource)
    assert unit is not None
    return describe(unit, labels, total)


def test_no_labels_say_nothing() -> None:
    assert _of("nvidia.com/gpu", {}) == Description()
    assert _of("amd.com/gpu", {}) == Description()
    assert _of("gpu.intel.com/xe", {}) == Description()
    assert _of("example.com/gpu", {"nvidia.com/gpu.product": "L4"}) == Description()


def test_labels_that_are_no_numbers_count_for_nothing() -> None:
    labels = {"nvidia.com/gpu.replicas": "many", "nvidia.com/gpu.memory": "-1"}
    assert _of("nvidia.com/gpu", labels) == Description()


@pytest.mark.parametrize(
    ("strategy", "sharing", "memory_mib"),
    [
        ("mps", Sharing.MPS, 2560),
        ("time-slicing", Sharing.TIME_SLICING, 10240),
        ("", Sharing.TIME_SLICING, 10240),  # before MPS there was no label of a strategy
    ],
)
def test_how_units_share_a_device(strategy: str, sharing: Sharing, memory_mib: int) -> None:
    labels = {
        "nvidia.com/gpu.replicas": "4",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/gpu.memory": "10240",
        "nvidia.com/gpu.sharing-strategy": strategy,
    }
    said = _of("nvidia.com/gpu", labels)
    assert (said.sharing, said.memory_mib, said.replicas, said.promised) == (
        sharing,
        memory_mib,
        4,
        8,
    )


def test_a_node_that_shares_something_else_does_not_share_this() -> None:
    labels = {
        "nvidia.com/gpu.sharing-strategy": "time-slicing",
        "nvidia.com/gpu.replicas": "4",
        f"{MIG}.replicas": "1",
        f"{MIG}.memory": "4864",
    }
    assert _of(MIG, labels).sharing is Sharing.PARTITION


def test_an_instance_is_described_by_its_own_labels_and_the_gpus_architecture() -> None:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
        "nvidia.com/gpu.memory": "40960",
        "nvidia.com/gpu.family": "ampere",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "0",
    }
    said = _of(MIG, labels)
    assert (said.product, said.memory_mib, said.architecture) == ("A100-SXM4-40GB", 0, "ampere")
    assert (said.compute_capability, said.profile) == ("8.0", "1g.5gb")


def test_a_mig_setup_that_is_broken() -> None:
    said = _of("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-A30-MIG-INVALID"})
    assert (said.product, said.profile, said.broken) == ("A30", "", BROKEN_MIG)


def test_an_unknown_family_is_none() -> None:
    assert _of("nvidia.com/gpu", {"nvidia.com/gpu.family": "undefined"}).architecture == ""


@pytest.mark.parametrize(
    ("product", "architecture"),
    [
        ("AMD_Instinct_MI100", "gfx908"),
        ("AMD_Instinct_MI250X", "gfx90a"),
        ("AMD_Instinct_MI300X_OAM", "gfx942"),
        ("AMD_Instinct_MI325X", "gfx942"),
        ("AMD_Instinct_MI355X", "gfx950"),
        ("AMD_Radeon_PRO_W7900", ""),
    ],
)
def test_architectures_of_amd(product: str, architecture: str) -> None:
    said = _of("amd.com/gpu", {"amd.com/gpu.product-name": product, "amd.com/gpu.vram": "1T"})
    assert (said.architecture, said.memory_mib) == (architecture, 1 << 20)


def test_intel_gpus_whose_number_is_not_known_are_not_said_to_be_shared() -> None:
    assert _of("gpu.intel.com/i915", {"gpu.intel.com/product": "Max_1550"}, 20).replicas == 1
    odd = _of("gpu.intel.com/i915", {"gpu.intel.com/device.count": "3"}, 20)
    assert (odd.replicas, odd.sharing) == (1, Sharing.NONE)
