"""Metrics of exporters become devices: names, units, labels, MIG."""

import math
from pathlib import Path

import pytest

from edge_agent.policy.device_health import Signals
from edge_agent.policy.metric_maps import (
    BOTH,
    DCGM,
    DCGM_4_9,
    TRITON,
    MetricMap,
    Sample,
    devices_of,
    parse_map,
)
from federation.contract.capacity import DeviceUse
from federation.contract.errors import Invalid

ABOUT = {
    "gpu": "0",
    "UUID": "GPU-1",
    "pci_bus_id": "00000000:2F:00.0",
    "device": "nvidia0",
    "modelName": "NVIDIA H100 80GB HBM3",
    "Hostname": "host-1",
}
OLD = {
    "DCGM_FI_DEV_GPU_UTIL": 37,
    "DCGM_FI_DEV_FB_USED": 1024,
    "DCGM_FI_DEV_FB_FREE": 79995,
    "DCGM_FI_DEV_FB_RESERVED": 540,
    "DCGM_FI_DEV_GPU_TEMP": 41,
    "DCGM_FI_DEV_POWER_USAGE": 123.5,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
    "DCGM_FI_DEV_SM_CLOCK": 1980,
}
NEW = {
    "DCGM_FI_DEV_GPU_UTIL_RATIO": 0.37,
    "DCGM_FI_DEV_FB_USED_BYTES": 1024 << 20,
    "DCGM_FI_DEV_FB_CAPACITY_BYTES": 81559 << 20,
    "DCGM_FI_DEV_GPU_TEMP_CELSIUS": 41,
    "DCGM_FI_DEV_BOARD_POWER_WATTS": 123.5,
    "DCGM_FI_DEV_XID_ERROR": 0,
}


def page(values: dict[str, float], **labels: str) -> list[Sample]:
    return [Sample(name, ABOUT | labels, value) for name, value in values.items()]


@pytest.mark.parametrize(
    ("values", "metric_map"),
    [(OLD, DCGM), (OLD, BOTH), (NEW, DCGM_4_9), (NEW, BOTH), (OLD | NEW, BOTH)],
)
def test_names_and_units_before_and_after_4_9(
    values: dict[str, float], metric_map: MetricMap
) -> None:
    [one] = devices_of(page(values), metric_map, "dcgm")
    device = one.device
    assert (device.id, device.product, device.node) == ("GPU-1", "H100 80GB HBM3", "host-1")
    assert (device.memory_mib, device.source, one.bus_id) == (81559, "dcgm", "0000:2f:00.0")
    assert device.use == DeviceUse(
        memory_mib=1024, utilization=0.37, temperature_c=41.0, power_w=123.5
    )
    assert one.signals == Signals()


def test_the_wrong_preset_sees_nothing_rather_than_something_wrong() -> None:
    assert devices_of(page(NEW), DCGM, "dcgm") == []
    assert devices_of(page(OLD), DCGM_4_9, "dcgm") == []


def test_metrics_of_health() -> None:
    sick = OLD | {"DCGM_FI_DEV_XID_ERRORS": 79, "DCGM_FI_DEV_ROW_REMAP_FAILURE": 1}
    [one] = devices_of(page(sick), BOTH, "dcgm")
    assert one.signals == Signals(last_xid=79, remap_failed=True)


def test_mig_instances_have_the_health_of_their_gpu_and_an_activity_of_their_own() -> None:
    gpu = page({"DCGM_FI_DEV_XID_ERRORS": 79, "DCGM_FI_DEV_GPU_TEMP": 40})
    slices = [
        sample
        for number in ("7", "9")
        for sample in page(
            {
                "DCGM_FI_DEV_FB_USED": 12,
                "DCGM_FI_DEV_FB_FREE": 9844,
                "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.5,
                "DCGM_FI_DEV_POWER_USAGE": 300,
            },
            GPU_I_PROFILE="1g.10gb",
            GPU_I_ID=number,
        )
    ]
    found = devices_of([*gpu, *slices], BOTH, "dcgm")
    assert [one.device.id for one in found] == ["GPU-1/gi-7", "GPU-1/gi-9"]
    device = found[0].device
    assert (device.parent, device.profile, device.memory_mib) == ("GPU-1", "1g.10gb", 9856)
    assert device.use == DeviceUse(memory_mib=12, utilization=0.5), "power is the whole GPU's"
    assert found[0].signals == Signals(last_xid=79)
    assert found[0].bus_id == ""
    assert [one.signals for one in devices_of(slices, BOTH, "dcgm")] == [Signals(), Signals()]


def test_what_makes_no_sense_is_left_out() -> None:
    samples = [
        *page({"DCGM_FI_DEV_GPU_UTIL": math.nan, "DCGM_FI_DEV_FB_USED": math.inf}),
        Sample("DCGM_FI_DEV_GPU_UTIL", {"gpu": "0"}, 1.0),
        *page({"DCGM_FI_DEV_GPU_UTIL": 250}, UUID="GPU-2"),
    ]
    [one] = devices_of(samples, BOTH, "dcgm")
    assert one.device.id == "GPU-2"
    assert one.device.memory_mib == 0
    assert one.device.use == DeviceUse(utilization=1.0)


def test_tritons_own() -> None:
    labels = {"gpu_uuid": "GPU-1"}
    values = {
        "nv_gpu_utilization": 0.1,
        "nv_gpu_memory_total_bytes": 16.0 * 2**30,
        "nv_gpu_memory_used_bytes": 2.0**30,
        "nv_gpu_power_usage": 55.0,
    }
    samples = [Sample(name, labels, value) for name, value in values.items()]
    [one] = devices_of(samples, TRITON, "triton")
    assert (one.device.id, one.device.memory_mib) == ("GPU-1", 16384)
    assert one.device.use == DeviceUse(memory_mib=1024, utilization=0.1, power_w=55.0)


def test_an_operators_map() -> None:
    text = """
metrics:
  - {name: gpu_busy_percent, field: utilization, scale: 0.01}
  - {name: gpu_temp, field: temperature}
labels:
  uuid: [id]
"""
    found = parse_map(text, "map.yaml")
    samples = [Sample("gpu_busy_percent", {"id": "GPU-9"}, 50.0)]
    [one] = devices_of(samples, found, "dcgm")
    assert one.device.use == DeviceUse(utilization=0.5)
    assert one.device.id == "GPU-9"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metrics: []\n", "no metrics"),
        ("metrics:\n  - {name: x, field: speed}\n", "line 2"),
        ("metrics:\n  - {name: x, field: power, scale: 0}\n", "scale above 0"),
        ("metrics:\n  - {name: x, field: power, scale: .nan}\n", "scale above 0"),
        ("metrics:\n  - {name: '', field: power}\n", "line 2: a metric needs a name"),
        ("metrics:\n  - {name: x, field: power, unit: mW}\n", "unknown key 'unit'"),
        ("labels: {}\n", "metrics"),
    ],
)
def test_mistakes_in_a_map_are_told(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_map(text, str(Path("/etc/map.yaml")))
    assert words in caught.value.message
