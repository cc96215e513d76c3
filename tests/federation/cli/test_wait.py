import threading
import time
from collections.abc import Iterator

import pytest

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look
from federation.cli.exits import WaitNotMet
from federation.cli.wait import wait_for
from federation.contract.errors import NotFound
from federation.contract.resources import Kind, kind_of
from tests.federation.cli.fake_control_plane import TOKEN, FakeControlPlane


def region() -> Kind:
    found = kind_of("region")
    assert found
    return found


@pytest.fixture
def client(url: str) -> Iterator[ApiClient]:
    with ApiClient(url, token=TOKEN, timeout_s=5.0) as opened:
        yield opened


def cold(document: Json) -> str:
    return "" if look(document, "status", "warm") else "it is cold\x1b[31m"


def test_it_returns_as_soon_as_nothing_is_missing(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.put("regions", "a", {}, {"warm": False})
    later = threading.Timer(0.2, plane.put, ("regions", "a", {}, {"warm": True}))
    later.start()
    started = time.perf_counter()
    assert wait_for(client, region(), "a", cold, timeout_s=10)["status"] == {"warm": True}
    assert time.perf_counter() - started < 5
    later.join()


def test_when_time_is_up_the_last_reason_is_told(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.put("regions", "a", {}, {})
    with pytest.raises(WaitNotMet, match=r"region/a is not ready after 0\.1 s: it is cold \[31m\."):
        wait_for(client, region(), "a", cold, timeout_s=0.1)


def test_an_object_that_goes_away_ends_the_wait(client: ApiClient) -> None:
    with pytest.raises(NotFound):
        wait_for(client, region(), "a", cold, timeout_s=10)


def test_a_control_plane_that_is_away_is_a_reason_to_wait(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.put("regions", "a", {}, {"warm": True})
    plane.drop_answers = 2
    assert wait_for(client, region(), "a", cold, timeout_s=10)
    with ApiClient("http://127.0.0.1:9") as nobody, pytest.raises(WaitNotMet, match="cannot reach"):
        wait_for(nobody, region(), "a", cold, timeout_s=0.1)
