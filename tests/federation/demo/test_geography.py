import ipaddress

import pytest

from federation.contract.types import Location
from federation.demo.geography import distance_km, load_geography


def test_clients_live_on_five_continents_and_have_public_addresses() -> None:
    clients = load_geography().clients
    assert {c.continent for c in clients} == {
        *("Africa", "Asia", "Europe", "North America", "South America"),
    }
    assert all(ipaddress.ip_address(c.address).is_global for c in clients)


def test_the_matrix_is_whole_and_every_region_has_a_place() -> None:
    geography = load_geography()
    assert len(geography.rtt_ms) == len(geography.locations) ** 2
    assert geography.rtt_ms["westeurope", "westeurope"] == 0
    assert 60 < geography.rtt_ms["westeurope", "eastus2"] < 120


def test_distance_is_that_of_the_great_circle() -> None:
    paris = Location(latitude=48.857, longitude=2.352)
    new_york = Location(latitude=40.713, longitude=-74.006)
    assert distance_km(paris, new_york) == pytest.approx(5837, rel=0.005)
    assert distance_km(paris, paris) == 0
    across = Location(latitude=-48.857, longitude=-177.648)
    assert distance_km(paris, across) == pytest.approx(20015, rel=0.001)
