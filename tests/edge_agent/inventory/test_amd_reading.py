"""amdsmi's fields: whole GPUs, partitions, units of memory, what is not supported."""

import pytest

from edge_agent.inventory.amd_reading import AmdReading, look, mebibytes
from edge_agent.policy.device_health import Signals
from federation.contract.capacity import Device, DeviceUse
from tests.edge_agent.inventory.amd_cards import AmdSmiException, Card, Driver, mi300x, partitions


def test_a_whole_gpu() -> None:
    driver = Driver(mi300x())
    assert look(driver, "host-1") == (
        AmdReading(
            bus_id="0000:00:00.0",
            device=Device(
                id="00ff74a1-0000-1000-80ff-000000000000",
                vendor="amd",
                product="AMD Instinct MI300X",
                memory_mib=196592,
                source="amd",
                node="host-1",
                architecture="gfx942",
                use=DeviceUse(memory_mib=283, utilization=0.25, temperature_c=44.0, power_w=143.0),
            ),
            signals=Signals(remaps=True),
        ),
    )
    assert driver.open == 0


def test_partitions_are_devices_of_one_parent() -> None:
    devices = [reading.device for reading in look(Driver(*partitions(3)), "n")]
    assert len({d.id for d in devices}) == 3
    assert {d.parent for d in devices} == {"0000:00:00.0"}
    assert {d.profile for d in devices} == {"cpx_nps4"}
    assert {d.memory_mib for d in devices} == {24574}
    assert devices[0].use == DeviceUse(memory_mib=10, temperature_c=44.0)


def test_what_is_not_supported_is_absent() -> None:
    card = mi300x()
    card.answers = {
        "amdsmi_get_gpu_asic_info": {"market_name": "N/A", "target_graphics_version": "gfx90a"},
    }
    [reading] = look(Driver(card), "n")
    assert reading.device == Device(
        id="n/amd#0",
        vendor="amd",
        product="GPU",
        memory_mib=0,
        source="amd",
        node="n",
        architecture="gfx90a",
        use=DeviceUse(),
    )
    assert not reading.signals.lost


def test_a_gpu_that_tells_nothing_is_lost() -> None:
    [reading] = look(Driver(Card()), "n")
    assert reading.signals.lost


def test_no_driver_is_an_error() -> None:
    driver = Driver()
    driver.broken = True
    with pytest.raises(AmdSmiException):
        look(driver, "n")


@pytest.mark.parametrize(
    ("value", "like", "mib"),
    [
        (196592, None, 196592),
        (206141652992, None, 196592),
        (4096, 196592, 4096),
        (4096 << 20, 206141652992, 4096),
        (1 << 20, 206141652992, 1),
        (0, 206141652992, 0),
        ("N/A", None, None),
        (None, None, None),
        (1, "N/A", None),
    ],
)
def test_memory_is_in_mebibytes_whatever_the_unit(
    value: object, like: object, mib: int | None
) -> None:
    assert mebibytes(value, like=like) == mib
