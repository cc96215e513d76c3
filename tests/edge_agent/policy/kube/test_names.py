import pytest

from edge_agent.policy.kube.names import Unit, is_gpu_name, is_measure, unit_of, vendor_of


@pytest.mark.parametrize(
    ("resource", "unit"),
    [
        ("nvidia.com/gpu", ("nvidia", "nvidia.com/gpu", "", False)),
        ("nvidia.com/gpu.shared", ("nvidia", "nvidia.com/gpu", "", True)),
        ("nvidia.com/mig-1g.5gb", ("nvidia", "nvidia.com/mig-1g.5gb", "1g.5gb", False)),
        ("nvidia.com/mig-1g.5gb.shared", ("nvidia", "nvidia.com/mig-1g.5gb", "1g.5gb", True)),
        ("nvidia.com/mig-1g.10gb.me", ("nvidia", "nvidia.com/mig-1g.10gb.me", "1g.10gb+me", False)),
        (
            "nvidia.com/mig-1c.3g.20gb",
            ("nvidia", "nvidia.com/mig-1c.3g.20gb", "1c.3g.20gb", False),
        ),
        ("nvidia.com/pgpu", ("nvidia", "nvidia.com/pgpu", "", False)),
        ("amd.com/gpu", ("amd", "amd.com/gpu", "", False)),
        ("amd.com/cpx_nps4", ("amd", "amd.com/gpu", "cpx_nps4", False)),
        ("gpu.intel.com/i915", ("intel", "gpu.intel.com", "", False)),
        ("gpu.intel.com/xe", ("intel", "gpu.intel.com", "", False)),
        ("gpu.intel.com/newer", ("intel", "gpu.intel.com", "", False)),
        ("metax-tech.com/gpu", ("metax-tech", "metax-tech.com/gpu", "", False)),
        ("example.com/team-vgpu", ("example", "example.com/team-vgpu", "", False)),
    ],
)
def test_what_is_a_gpu(resource: str, unit: tuple[str, str, str, bool]) -> None:
    assert unit_of(resource) == Unit(resource, *unit)


@pytest.mark.parametrize(
    "resource",
    [
        "cpu",
        "memory",
        "hugepages-1Gi",
        "nvidia.com/mig-strategy",
        "amd.com/memory_carveout",
        "gpu.intel.com/i915_monitoring",
        "gpu.intel.com/xe_monitoring",
        "gpu.intel.com/millicores",
        "gpu.intel.com/memory.max",
        "gpu.intel.com/tiles",
        "google.com/tpu",
        "example.com/gpu-mem",
        "example.com/gpumem",
        "kubernetes.io/gpu",
        "deviceclass.resource.kubernetes.io/gpu.nvidia.com",
        "/gpu",
        "example.com/",
    ],
)
def test_what_is_none(resource: str) -> None:
    assert unit_of(resource) is None


def test_measures_of_gpus_are_told_apart() -> None:
    assert is_measure("aliyun.com/gpu-mem")
    assert is_measure("nvidia.com/gpumem-percentage")
    assert not is_measure("nvidia.com/gpu")
    assert not is_measure("gpu.intel.com/i915_monitoring")
    assert not is_measure("google.com/tpu")


def test_drivers_and_classes_of_gpus() -> None:
    assert is_gpu_name("gpu.nvidia.com")
    assert is_gpu_name("mig.nvidia.com")
    assert is_gpu_name("large-gpus")
    assert not is_gpu_name("compute-domain.nvidia.com")
    assert not is_gpu_name("migration.example.com")
    assert (vendor_of("gpu.nvidia.com"), vendor_of("local")) == ("nvidia", "local")
