"""The file of declared devices, read strictly."""

from pathlib import Path

import pytest

from edge_agent.inventory.declared import DeclaredInventory, read_declared
from federation.contract.capacity import Capacity, Device
from federation.contract.errors import Invalid


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    return path


async def test_devices_are_counted_and_named(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
devices:
  - {product: L40S, memory_mib: 46068, count: 2}
  - {id: gpu-x, vendor: amd, product: MI300X, memory_mib: 196608, healthy: false}
  - {id: pair, product: A100, memory_mib: 81920, count: 2}
  - {product: T4, memory_mib: 15360}
""",
    )
    devices = (await DeclaredInventory(path).read()).devices
    assert [d.id for d in devices] == [
        "declared-0",
        "declared-1",
        "gpu-x",
        "pair-0",
        "pair-1",
        "declared-5",
    ]
    assert {d.source for d in devices} == {"declared"}
    assert (devices[2].vendor, devices[2].healthy) == ("amd", False)


async def test_all_of_a_device_can_be_declared(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
devices:
  - id: slice
    product: A100-SXM4-40GB
    memory_mib: 4864
    node: rack-3
    parent: GPU-1
    profile: 1g.5gb
    architecture: ampere
    compute_capability: "8.0"
    healthy: false
    reason: its fan is being replaced
""",
    )
    assert (await DeclaredInventory(path).read()).devices == (
        Device(
            id="slice",
            vendor="nvidia",
            product="A100-SXM4-40GB",
            memory_mib=4864,
            healthy=False,
            source="declared",
            reason="its fan is being replaced",
            node="rack-3",
            parent="GPU-1",
            profile="1g.5gb",
            architecture="ampere",
            compute_capability="8.0",
        ),
    )


async def test_that_there_is_no_device_can_be_declared(tmp_path: Path) -> None:
    assert await DeclaredInventory(written(tmp_path, "devices: []")).read() == Capacity()


async def test_json_is_fine_too(tmp_path: Path) -> None:
    path = written(tmp_path, '{"devices": [{"product": "H100", "memory_mib": 81559}]}')
    assert len((await DeclaredInventory(path).read()).devices) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("devices:\n  - {product: X, memory: 1}\n", "line 2: unknown key 'memory'"),
        ("devices:\n  - {product: X, memory_mib: lots}\n", "line 2: devices.0.memory_mib"),
        ("devices:\n  - product: X\n    memory_mib: 0\n", "line 2: product must not be empty"),
        ("devices:\n  - {product: X, memory_mib: 1, reason: old}\n", "line 2: a reason says"),
        ("devices:\n  - {product: X, memory_mib: 1, count: 99999}\n", "more than 10000"),
        (
            "devices: [{id: a, product: X, memory_mib: 1}, {id: a, product: X, memory_mib: 1}]",
            "'a'",
        ),
        ("devices: [", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
        ("gpus: 3\n", "unknown key 'gpus'"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_declared(written(tmp_path, text))
    assert words in caught.value.message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot read the inventory"):
        DeclaredInventory(tmp_path / "missing")


async def test_changes_are_seen_and_a_bad_change_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "devices: [{product: X, memory_mib: 1}]")
    inventory = DeclaredInventory(path)
    path.write_text("devices: [{product: X, memory_mib: 1, count: 3}]")
    assert len((await inventory.read()).devices) == 3
    path.write_text("devices: [")
    for _ in range(3):
        capacity = await inventory.read()
        assert len(capacity.devices) == 3
        assert "not valid YAML" in capacity.reason
    assert len(caplog.records) == 1
