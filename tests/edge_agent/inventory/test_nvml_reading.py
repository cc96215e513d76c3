"""NVML's fields, on cards that support all, some, or nothing any more."""

import re
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from edge_agent.inventory import nvml_reading
from edge_agent.inventory.nvml_reading import NvmlSession, is_no_driver
from edge_agent.policy.device_health import Recovery, Signals
from federation.contract.capacity import Device, DeviceUse
from tests.edge_agent.inventory.nvidia_cards import (
    LIBRARY_NOT_FOUND,
    MISMATCH,
    Card,
    Driver,
    NVMLError,
    a100_with_mig,
    h100,
    recovery,
    t4,
)


def look(*cards: Card, hold: bool = False) -> list[tuple[tuple[Device, ...], Signals]]:
    driver = Driver(*cards)
    readings = NvmlSession(driver, "host-1").look(hold=hold)
    if not hold:
        assert (driver.open, driver.sets) == (0, 0)
    return [(reading.devices, reading.signals) for reading in readings]


def test_an_h100_tells_all() -> None:
    [(devices, signals)] = look(h100())
    assert devices == (
        Device(
            id="GPU-h100-0",
            vendor="nvidia",
            product="H100 80GB HBM3",
            memory_mib=81559,
            source="nvml",
            node="host-1",
            architecture="hopper",
            compute_capability="9.0",
            use=DeviceUse(memory_mib=1024, utilization=0.37, temperature_c=41.0, power_w=123.456),
        ),
    )
    assert signals == Signals(recovery=Recovery.NONE, remaps=True)


def test_an_older_card_and_driver_tell_what_they_can() -> None:
    [([device], signals)] = look(t4())
    assert (device.id, device.product, device.architecture) == ("GPU-t4", "Tesla T4", "turing")
    assert device.compute_capability == "7.5"
    assert device.use == DeviceUse(
        memory_mib=448, utilization=0.0, temperature_c=33.0, power_w=9.95
    )
    assert signals == Signals(), "it cannot tell what it needs to recover, and remaps nothing"


def test_a_card_that_supports_nothing_is_still_a_card() -> None:
    [([device], signals)] = look(Card({"nvmlDeviceGetUUID": "GPU-x"}))
    assert device == Device(
        id="GPU-x",
        vendor="nvidia",
        product="GPU",
        memory_mib=0,
        source="nvml",
        node="host-1",
        use=DeviceUse(),
    )
    assert signals == Signals()


def test_mig_instances_have_a_parent_a_profile_and_no_utilisation() -> None:
    [(devices, _)] = look(a100_with_mig())
    assert [(d.id, d.profile, d.memory_mib, d.parent) for d in devices] == [
        ("MIG-0", "3g.20gb", 19968, "GPU-a100"),
        ("MIG-3", "1g.5gb", 4864, "GPU-a100"),
        ("MIG-4", "1c.3g.20gb", 19968, "GPU-a100"),
    ]
    assert {d.product for d in devices} == {"A100-SXM4-40GB"}
    assert {d.compute_capability for d in devices} == {"8.0"}
    assert devices[0].use == DeviceUse(memory_mib=13, temperature_c=41.0)


def test_mig_without_an_instance_is_no_place_for_work() -> None:
    card = a100_with_mig()
    card.instances = {}
    [([device], signals)] = look(card)
    assert (device.id, device.parent) == ("GPU-a100", "")
    assert signals.unusable == "MIG is on, but there is no MIG instance"


@pytest.mark.parametrize(
    ("function", "answer", "expected"),
    [
        ("nvmlDeviceGetRemappedRows", (0, 1, 1, 0), {"remap_pending": True}),
        ("nvmlDeviceGetRemappedRows", (0, 8, 0, 1), {"remap_failed": True}),
        ("nvmlDeviceGetTotalEccErrors", 3, {"uncorrected": 3}),
        ("nvmlDeviceGetCurrentClocksEventReasons", 0x48, {"hot": True}),
        ("nvmlDeviceGetCurrentClocksEventReasons", 0x21, {"warm": True}),
        ("nvmlDeviceGetCurrentClocksEventReasons", 0x88, {"braked": True}),
        ("nvmlDeviceGetFieldValues", recovery(1), {"recovery": Recovery.GPU_RESET}),
        ("nvmlDeviceGetFieldValues", recovery(99), {"recovery": Recovery.GPU_RESET}),
        (
            "nvmlDeviceGetFieldValues",
            [SimpleNamespace(nvmlReturn=3, value=None)],
            {"recovery": None},
        ),
    ],
)
def test_signs_of_trouble(function: str, answer: object, expected: dict[str, object]) -> None:
    card = h100()
    card.answers[function] = answer
    [(_, signals)] = look(card)
    assert signals == Signals(**{"recovery": Recovery.NONE, "remaps": True} | expected)  # type: ignore[arg-type]


def test_retired_pages_wait_on_cards_without_a_row_remapper() -> None:
    card = t4()
    card.answers["nvmlDeviceGetRetiredPagesPendingStatus"] = 1
    [(_, signals)] = look(card)
    assert signals == Signals(remap_pending=True)


def test_a_lost_card_leaves_the_others_alone() -> None:
    lost = h100(1)
    lost.lost = True
    first, second = look(h100(0), lost)
    assert first[1] == Signals(recovery=Recovery.NONE, remaps=True)
    assert second == ((), Signals(lost="the GPU is lost: GPU is lost"))


def test_errors_of_the_time_between_looks_are_heard_of_while_it_is_open() -> None:
    driver = Driver(h100(0), t4(), h100(2))
    session = NvmlSession(driver, "host-1")
    assert [r.signals.xids for r in session.look(hold=True)] == [(), (), ()]
    assert (driver.open, driver.sets, repr(session)) == (1, 1, "NvmlSession(open)")
    driver.raise_xid(driver.cards[2], 31)
    driver.raise_xid(driver.cards[2], 94)
    driver.raise_xid(driver.cards[1], 79)
    assert [r.signals.xids for r in session.look(hold=True)] == [(), (), (31, 94)]
    assert [r.signals.xids for r in session.look(hold=True)] == [(), (), ()]
    session.look(hold=False)
    assert (driver.open, driver.sets) == (0, 0), "nobody holds a GPU that is to be reset"
    session.close()


def test_a_driver_that_fails_in_the_middle_is_closed() -> None:
    driver = Driver(h100())
    driver.nvmlDeviceGetCount = lambda: (_ for _ in ()).throw(NVMLError(999))  # type: ignore[method-assign]
    with pytest.raises(NVMLError):
        NvmlSession(driver, "n").look(hold=False)
    assert driver.open == 0


def test_no_driver_is_told_from_a_broken_one() -> None:
    assert is_no_driver(NVMLError(LIBRARY_NOT_FOUND))
    assert not is_no_driver(NVMLError(MISMATCH))


def test_the_real_library_has_all_that_is_asked_for() -> None:
    source = Path(nvml_reading.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r"(?:nvml\.|library\.|\")(nvml[A-Z]\w+|NVML_[A-Z_]+|NVMLError)", source))
    assert len(names) > 30
    assert {name for name in names if not hasattr(pynvml, name)} == set()
    fields = {
        pynvml.c_nvmlMemory_t: {"total", "used"},
        pynvml.c_nvmlUtilization_t: {"gpu"},
        pynvml.c_nvmlEventData_t: {"device", "eventType", "eventData"},
        pynvml.c_nvmlFieldValue_t: {"nvmlReturn", "value"},
        pynvml.c_nvmlDeviceAttributes: {
            "memorySizeMB",
            "gpuInstanceSliceCount",
            "computeInstanceSliceCount",
        },
    }
    for struct, wanted in fields.items():
        assert wanted <= set(dir(struct)), struct
    assert pynvml.c_nvmlFieldValue_t().value.uiVal == 0
    assert Recovery.SYSTEM_REBOOT == pynvml.NVML_GPU_RECOVERY_ACTION_SYSTEM_REBOOT
    assert is_no_driver(pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED))
    assert is_no_driver(pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    reasons = (
        pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    )
    assert reasons == (0x40, 0x20, 0x80)
    assert (pynvml.NVML_DEVICE_ARCH_HOPPER, pynvml.NVML_DEVICE_ARCH_BLACKWELL) == (9, 10)
