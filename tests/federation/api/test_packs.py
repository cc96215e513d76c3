from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from federation.api.packs import PackLinks, byte_range
from federation.app import ControlPlane
from federation.contract.locations import Locations, PackSource
from federation.identity.links import Links
from tests.fakes.control_plane import Operator, operator, running

CONTENT = b"0123456789" * 10
VERSION = "/api/v1/models/m/versions/1"


async def pack_url(api: Operator) -> str:
    """Push a package; return the signed URL of the pack that it is in."""
    assert (await api.push("m", CONTENT)).status == 201
    told = await api.call("GET", f"{VERSION}/locations")
    assert told.status == 200, told.body
    assert told.json["good_for_s"] == 3600
    url: str = told.json["packs"][0]["url"]
    return url


async def test_a_pack_is_fetched_by_its_link_alone(api: Operator) -> None:
    url = await pack_url(api)
    answer = await api.call("GET", url, headers={"Authorization": ""})
    assert answer.status == 200
    assert CONTENT in answer.body
    pack = url.rpartition("/")[2].partition("?")[0]
    assert answer.headers["ETag"] == f'"{pack}"'
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("header", "part", "told"),
    [
        ("bytes=0-3", slice(0, 4), "0-3"),
        ("bytes=4-", slice(4, None), "4-{last}"),
        ("bytes=-3", slice(-3, None), "{third}-{last}"),
        ("bytes=0-", slice(None), "0-{last}"),  # 206: the far end must see that it was understood
        ("bytes=-99999", slice(None), "0-{last}"),
        ("bytes=1-99999", slice(1, None), "1-{last}"),
    ],
)
async def test_a_range_is_served(api: Operator, header: str, part: slice, told: str) -> None:
    url = await pack_url(api)
    whole = (await api.call("GET", url)).body
    answer = await api.call("GET", url, headers={"Range": header})
    assert (answer.status, answer.body) == (206, whole[part])
    size = len(whole)
    told = told.format(last=size - 1, third=size - 3)
    assert answer.headers["Content-Range"] == f"bytes {told}/{size}"


async def test_ranges_that_cannot_be_are_refused_and_odd_ones_ignored(api: Operator) -> None:
    url = await pack_url(api)
    whole = (await api.call("GET", url)).body
    beyond = await api.call("GET", url, headers={"Range": "bytes=99999-"})
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{len(whole)}"
    for odd in ("bytes=3-1", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=0-1x", "bytes=²-"):
        answer = await api.call("GET", url, headers={"Range": odd})
        assert (answer.status, answer.body) == (200, whole), odd


async def test_what_is_held_already_is_not_sent_and_another_tag_gets_all(api: Operator) -> None:
    url = await pack_url(api)
    tag = (await api.call("GET", url)).headers["ETag"]
    assert (await api.call("GET", url, headers={"If-None-Match": tag})).status == 304
    wanted = {"Range": "bytes=0-3", "If-Range": tag}
    assert (await api.call("GET", url, headers=wanted)).status == 206
    assert (await api.call("GET", url, headers=wanted | {"If-Range": '"x"'})).status == 200


async def test_links_that_were_changed_or_ended_open_nothing(
    api: Operator, plane: ControlPlane
) -> None:
    url = await pack_url(api)
    path, _, query = url.partition("?")
    expires = query.partition("&")[0]
    for bad in (
        f"{path}?{expires}&signature={'0' * 64}",
        url.replace("expires=", "expires=9"),
        f"{path}?signature=",
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        f"/api/v1/packs/{'a' * 64}?{query}",
    ):
        answer = await api.call("GET", bad, headers={"Authorization": ""})
        assert (answer.status, answer.json["reason"]) == (403, "bad-link"), bad
    old = int(datetime.now(UTC).timestamp()) - 1
    pack = path.rpartition("/")[2]
    ended = f"{path}?{plane_links(plane).query(pack, old)}"
    answer = await api.call("GET", ended, headers={"Authorization": ""})
    assert (answer.status, answer.json["reason"]) == (403, "link-ended")


def plane_links(plane: ControlPlane) -> Links:
    """The links of a control plane, by the key in its directory."""
    route = next(r for r in plane.api.routes if r.path == "/api/v1/packs/{id}")
    checks: PackLinks = route.link.__self__  # type: ignore[union-attr]
    return checks._links


async def test_a_token_opens_packs(api: Operator) -> None:
    path = (await pack_url(api)).partition("?")[0]
    assert (await api.call("GET", path)).status == 200
    assert (await api.call("GET", path, headers={"Authorization": ""})).status == 401
    absent = await api.call("GET", f"/api/v1/packs/{'a' * 64}")
    assert (absent.status, absent.json["reason"]) == (404, "not-found")
    assert (await api.call("GET", "/api/v1/packs/..%2f..%2fetc")).status in (400, 404)


async def test_packs_may_be_served_elsewhere(tmp_path: Path) -> None:
    base = "https://cdn.example/models/"
    async with running(tmp_path, packs_url=base) as plane, operator(plane) as api:
        url = await pack_url(api)
        assert url.startswith("https://cdn.example/models/")
        assert "//" not in url.removeprefix("https://")
        assert "signature=" in url


def test_a_buckets_own_links_are_kept_unless_a_base_is_set() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    clock: Any = SimpleNamespace(utc=lambda: now)
    signed = PackSource(id="a" * 64, url="https://bucket.example/x?sig=1")
    held = Locations(packs=(signed,), places=b"")
    links = Links(b"k")
    kept = PackLinks(links, clock).complete(held)
    assert kept.packs == (signed,)
    moved = PackLinks(links, clock, base_url="http://cdn").complete(held)
    assert moved.packs[0].url.startswith(f"http://cdn/{'a' * 64}?expires=")
    life = int(moved.packs[0].url.partition("expires=")[2].partition("&")[0])
    assert timedelta(hours=1).total_seconds() <= life - now.timestamp() <= 3600 + 60


def test_ranges_of_nothing() -> None:
    assert byte_range("bytes=0-", 0) == (0, 0)
    assert byte_range(None, 0) is None
