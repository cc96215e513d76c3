import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from federation.contract.types import Location, RouterSite
from router.policy import table as tables
from router.state import Steer
from tests.router.fakes import RouterUnderTest, gateways, router_for
from tests.router.test_records import only

LONDON = Location(latitude=51.5, longitude=-0.1)
TOKYO = Location(latitude=35.7, longitude=139.7)
FROM_TOKYO = {"x-forwarded-for": "133.11.0.1"}
FROM_LONDON = {"x-forwarded-for": "81.2.69.160"}
TRUSTED = ("127.0.0.0/8",)
NEAR = "http://127.0.0.1:1"


def know(router: RouterUnderTest, sites: Iterable[RouterSite], steer: Steer = Steer.TELL) -> None:
    """The router is in London, and so is eu-1; jp-1 is in Tokyo, where another router is."""
    state = router.state
    state.steer, state.location = steer, LONDON
    snapshot = state.require_table().snapshot
    places = {"eu-1": LONDON, "jp-1": TOKYO}
    state.swap(
        tables.build(
            replace(
                snapshot,
                endpoints=tuple(replace(e, location=places[e.cluster]) for e in snapshot.endpoints),
                routers=tuple(sites),
            ),
            state.reach,
        )
    )
    state.signals.probed("eu-1", 2.0, "", 0.0)
    state.signals.probed("jp-1", 230.0, "", 0.0)


def both(router: RouterUnderTest, near: str = NEAR) -> list[RouterSite]:
    return [
        RouterSite(name="near", url=near, location=TOKYO),
        RouterSite(name="test", url=router.url, location=LONDON),
    ]


async def test_far_clients_are_told_their_router_on_either_way() -> None:
    async with (
        gateways("eu-1", "jp-1") as fakes,
        router_for({n: f.url for n, f in fakes.items()}, trusted_proxies=TRUSTED) as router,
    ):
        know(router, both(router))
        session = {"x-fed-session": "s"}  # which the short way does not take
        for more in ({}, {}, {}, session):
            _, told, _ = await router.infer(headers={**FROM_TOKYO, **more})
            link = told["link"]
            assert link.startswith(f'<{NEAR}/>; rel="alternate"; anchor="/"; title="router near, ')
        _, told, _ = await router.infer(headers=FROM_LONDON)
        assert "link" not in told
        _, told, _ = await router.infer()  # nobody knows where this machine is
        assert "link" not in told
        know(router, both(router)[1:])
        _, told, _ = await router.infer(headers=FROM_TOKYO)
        assert "link" not in told
        know(router, both(router), Steer.OFF)
        _, told, _ = await router.infer(headers=FROM_TOKYO)
        assert "link" not in told


async def test_nearest_lists_the_routers_with_reasons() -> None:
    async with (
        gateways("eu-1", "jp-1") as fakes,
        router_for({n: f.url for n, f in fakes.items()}, trusted_proxies=TRUSTED) as router,
    ):
        know(router, both(router), Steer.OFF)
        status, _, body = await router.ask("GET", "/v1/nearest?model=digits", headers=FROM_TOKYO)
        found = json.loads(body)
        assert (status, found["object"], found["model"]) == (200, "list", "digits")
        assert (found["asked"], found["best"]) == ("test", "near")
        first, second = found["data"]
        assert (first["router"], first["url"], first["cluster"]) == ("near", NEAR, "jp-1")
        assert (second["router"], second["cluster"], second["measured"]) == ("test", "eu-1", True)
        assert first["expected_ms"] < second["expected_ms"]
        assert "jp-1, guessed from the distance" in first["why"]
        _, _, body = await router.ask("GET", "/v1/nearest", headers=FROM_LONDON)
        found = json.loads(body)
        assert (found["best"], found["model"], found["data"][0]["cluster"]) == ("test", None, None)
        _, _, body = await router.ask("GET", "/v1/nearest")
        found = json.loads(body)
        assert {each["expected_ms"] for each in found["data"]} == {None}
        assert found["best"] == "test"
        status, _, body = await router.ask("GET", "/v1/nearest?model=digit")
        assert (status, json.loads(body)["error"]["code"]) == (404, "model_not_found")


async def test_clients_that_follow_are_redirected_once() -> None:
    async with (
        gateways("eu-1", "jp-1") as fakes,
        router_for({n: f.url for n, f in fakes.items()}, trusted_proxies=TRUSTED) as far,
        router_for({n: f.url for n, f in fakes.items()}, trusted_proxies=TRUSTED) as near,
    ):
        follows = {**FROM_TOKYO, "x-fed-steer": "redirect"}
        know(far, both(far, near.url), Steer.REDIRECT)
        # The near one believes the same of the far one: it must not send clients back.
        know(near, both(near, far.url), Steer.REDIRECT)
        path = "/v2/models/digits/infer"
        async with far.session.post(
            far.url + path, data=b"{}", headers=follows, allow_redirects=False
        ) as response:
            assert response.status == 307
            assert response.headers["location"] == f"{near.url}{path}?fed-steered=test"
            assert "near is about" in (await response.json())["error"]
        async with far.session.post(far.url + path, data=b"{}", headers=follows) as response:
            assert response.status == 200
            assert str(response.url).startswith(near.url)
            assert len(response.history) == 1
        status, told, _ = await far.infer(headers=FROM_TOKYO)  # it did not say that it follows
        assert (status, "link" in told) == (200, True)
        assert sum(fake.inferences for fake in fakes.values()) == 2


@pytest.mark.parametrize("headers", [{}, {"x-fed-deadline-ms": "5000"}])
async def test_a_request_is_remembered_on_either_way(headers: dict[str, str]) -> None:
    async with (
        gateways("eu-1", "jp-1") as fakes,
        router_for({n: f.url for n, f in fakes.items()}) as router,
    ):
        know(router, ())
        for number in range(3):
            await router.infer(headers={"x-request-id": f"id-{number}", **headers})
        await router.infer("nothing", headers={"x-request-id": "id-9", **headers})
        records, clock = router.state.records, router.state.clock
        told = records.tell("id-2", "test", clock)
        record = only(told["records"])
        assert (record["chosen"], record["status"], record["failed"]) == ("eu-1", 200, [])
        assert [s["cluster"] for s in record["scores"]] == ["eu-1", "jp-1"]
        assert record["client"] == "127.0.0.1"
        assert "404" in str(records.tell("id-9", "test", clock)["why"])
