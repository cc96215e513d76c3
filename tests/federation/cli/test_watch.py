import contextlib
import itertools
import threading
from collections.abc import Iterator

import pytest

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look_list, name_of
from federation.cli.watch import Change, watch_kind
from federation.contract.resources import Kind, kind_of
from tests.federation.cli.fake_control_plane import TOKEN, FakeControlPlane, serving


def region() -> Kind:
    found = kind_of("region")
    assert found
    return found


@pytest.fixture
def client(url: str) -> Iterator[ApiClient]:
    with ApiClient(url, token=TOKEN, timeout_s=5.0) as opened:
        yield opened


def watching(client: ApiClient) -> Iterator[Change]:
    listed: Json = client.get("api", "v1", "regions")
    return watch_kind(client, region(), listed, look_list(listed, "items"))


def told(changes: Iterator[Change], count: int) -> list[tuple[str, str]]:
    return [(c.type, name_of(c.document)) for c in itertools.islice(changes, count)]


def test_changes_after_the_list_are_told(client: ApiClient, plane: FakeControlPlane) -> None:
    plane.put("regions", "old", {})
    changes = watching(client)
    plane.put("regions", "new", {})
    plane.put("clusters", "other", {})
    plane.put("regions", "old", {"x": 1})
    plane.remove("regions", "new")
    assert told(changes, 3) == [("ADDED", "new"), ("MODIFIED", "old"), ("DELETED", "new")]


def test_a_cut_watch_goes_on_where_it_was(
    client: ApiClient, plane: FakeControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.cut_watches = True
    changes = watching(client)
    for name in ("a", "b", "c"):
        plane.put("regions", name, {})
    assert told(changes, 3) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
    assert "ended the watch. Trying again until Ctrl-C." in capsys.readouterr().err


def test_a_watcher_that_fell_behind_lists_again(client: ApiClient, plane: FakeControlPlane) -> None:
    plane.put("regions", "gone", {})
    plane.put("regions", "held", {})
    changes = watching(client)
    plane.remove("regions", "gone")
    plane.put("regions", "new", {})
    plane.behind_once = True
    assert told(changes, 3) == [("DELETED", "gone"), ("MODIFIED", "held"), ("ADDED", "new")]
    plane.put("regions", "later", {})
    assert told(changes, 1) == [("ADDED", "later")]


def test_a_control_plane_that_restarts_is_waited_for(plane: FakeControlPlane) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(plane))
        client = stack.enter_context(ApiClient(url, token=TOKEN, timeout_s=5.0))
        changes = watching(client)
        plane.put("regions", "a", {})
        assert told(changes, 1) == [("ADDED", "a")]
        stack.pop_all().close()
        port = int(url.rpartition(":")[2])
        plane.put("regions", "b", {})
        back = threading.Timer(0.3, lambda: None)
        back.start()
        plane.stopping = False
        with serving(plane, port):
            back.join()
            assert told(changes, 1) == [("ADDED", "b")]
        client.close()
