import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from federation.relay.server import BodyLimits
from router.probe import ProbeTimes
from router.request.call import ProxyLimits
from tests.router.fakes import (
    FakeGateway,
    RouterUnderTest,
    eventually,
    gateways,
    hang,
    refuse,
    reset,
    router_for,
)

FAST = ProbeTimes(interval_s=0.1, again_s=0.05, patience_s=0.5)


def urls(fakes: dict[str, FakeGateway]) -> dict[str, str]:
    return {name: fake.url for name, fake in fakes.items()}


def prefer(router: RouterUnderTest, *clusters: str) -> None:
    """Make the clusters as near as their order says."""
    for i, cluster in enumerate(clusters):
        router.state.signals.probed(cluster, 10.0 + 50.0 * i, "", 0.0)


async def test_a_request_goes_to_the_nearest_and_the_answer_tells_the_way() -> None:
    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes)) as router:
        prefer(router, "us-1", "eu-1")
        headers = {
            "x-request-id": "abc-1",
            "traceparent": "00-1-2-01",
            "x-fed-model": "spoofed",
        }
        status, told, body = await router.infer(headers=headers)
        assert (status, json.loads(body)["by"]) == (200, "us-1")
        assert told["x-request-id"] == "abc-1"
        assert (told["x-fed-region"], told["x-fed-cluster"]) == ("us", "us-1")
        assert (told["x-fed-model-version"], told["x-fed-attempts"]) == ("2", "1")
        assert "upstream;dur=" in told["server-timing"]
        assert "x-fed-load" not in told
        path, sent = fakes["us-1"].heads[0]
        assert path == "/v2/models/digits/versions/2/infer"
        assert (sent["x-request-id"], sent["traceparent"]) == ("abc-1", "00-1-2-01")
        assert "x-fed-model" not in sent


async def test_a_sick_request_id_is_replaced() -> None:
    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        _, told, _ = await router.infer(headers={"x-request-id": "a b\tc"})
        assert len(told["x-request-id"]) == 32


@pytest.mark.parametrize("fault", [refuse, reset])
async def test_a_failing_cluster_costs_its_clients_nothing(fault: object) -> None:
    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes)) as router:
        prefer(router, "eu-1", "us-1")
        fakes["eu-1"].fault = fault  # type: ignore[assignment]
        body = b'{"inputs": []}' * 1000
        answers = [await router.infer(body=body) for _ in range(5)]
        assert [status for status, _, _ in answers] == [200] * 5
        assert answers[0][1]["x-fed-attempts"] == "2"
        assert {json.loads(answer)["by"] for _, _, answer in answers} == {"us-1"}
        assert fakes["us-1"].bodies == [body] * 5


async def test_saturation_everywhere_is_told_as_such() -> None:
    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes)) as router:
        for fake in fakes.values():
            fake.fault = lambda request: refuse(request, "saturated")
        status, told, body = await router.infer()
        assert (status, told["retry-after"]) == (429, "1")
        assert "eu-1: saturated" in json.loads(body)["error"]
        assert "ejected" not in repr(router.state.signals)


async def test_a_503_of_the_model_is_tried_elsewhere_and_passes_through_when_all_say_so() -> None:
    async def sick(request: web.Request) -> web.StreamResponse:
        headers = {"x-fed-load": "1"}
        return web.json_response({"error": "bad shape"}, status=503, headers=headers)

    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes)) as router:
        for fake in fakes.values():
            fake.fault = sick
        status, told, body = await router.infer()
        assert (status, json.loads(body)) == (503, {"error": "bad shape"})
        assert told["x-fed-attempts"] == "2"


async def test_a_full_outage_is_not_multiplied() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    names = ("eu-1", "eu-2", "us-1")
    async with gateways(*names) as fakes, router_for(urls(fakes)) as router:
        for fake in fakes.values():
            fake.fault = broken
        answers = [await router.infer() for _ in range(200)]
        statuses = [status for status, _, _ in answers]
        assert any(told.get("x-should-retry") == "false" for _, told, _ in answers)
        assert set(statuses) <= {429, 503}
        # The first failures, before the breakers open, are tried three times.
        assert sum(fake.inferences for fake in fakes.values()) <= 1.2 * 200 + 2 * 3


async def test_what_must_not_be_repeated_is_sent_once() -> None:
    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes)) as router:
        for fake in fakes.values():
            fake.fault = reset
        for headers, body in (
            ({"X-Federation-Replay": "never"}, b"{}"),
            ({}, b'{"parameters": {"sequence_id": 7}}'),
            ({"Inference-Header-Content-Length": "20"}, b'{"sequence_start":1}' + b"\0" * 9),
        ):
            before = sum(fake.inferences for fake in fakes.values())
            status, told, _ = await router.infer(body=body, headers=headers)
            assert (status, told["x-should-retry"]) == (503, "false")
            assert sum(fake.inferences for fake in fakes.values()) == before + 1


async def test_a_large_body_is_streamed_once_and_a_larger_one_refused() -> None:
    limits = ProxyLimits(body=BodyLimits(max_bytes=300_000), replay_bytes=1000)
    async with gateways("eu-1") as fakes, router_for(urls(fakes), limits=limits) as router:
        body = bytes(range(256)) * 1000
        status, _, _ = await router.infer(body=body)
        assert (status, fakes["eu-1"].bodies) == (200, [body])
        status, _, answer = await router.infer(body=body * 2)
        assert (status, "larger than 300000" in json.loads(answer)["error"]) == (413, True)
        chat = b'{"model": "poet", "x": "%s"}' % (b"y" * 2000)
        status, _, answer = await router.ask("POST", "/v1/completions", body=chat)
        assert (status, "larger than 1000" in answer.decode()) == (413, True)


async def test_events_pass_as_they_come_and_a_leaving_client_stops_them() -> None:
    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        fake, body = fakes["eu-1"], json.dumps({"model": "poet@1", "stream": True})
        async with router.session.post(router.url + "/v1/completions", data=body) as response:
            async with asyncio.timeout(10):
                assert b"first" in await response.content.readuntil(b"\n\n")
            assert fake.heads[0][1]["x-fed-model"] == "poet"
            assert fake.heads[0][1]["x-fed-version"] == "1"
            assert router.state.signals.in_flight("eu-1") == 1
            response.close()
        async with asyncio.timeout(10):
            await fake.cancelled.wait()
        await eventually(lambda: router.state.signals.in_flight("eu-1") == 0)


@pytest.mark.parametrize("cut_after", [1, 20, 60, 61, 75])
async def test_a_stream_that_breaks_ends_with_an_error_event(cut_after: int) -> None:
    event = b"data: " + b"a" * 52 + b"\n\n"

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write((event * 3)[:cut_after])
        await asyncio.sleep(0.05)
        return await reset(request)

    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        fakes["eu-1"].fault = cut
        for path, body in (
            ("/v1/completions", b'{"model": "poet"}'),
            ("/v2/models/poet/generate_stream", b"{}"),
        ):
            status, _, answer = await router.ask("POST", path, body=body)
            events = answer.split(b"\n\n")[:-1]
            assert status == 200
            assert events[:-1] == [event.strip()] * (cut_after // len(event))
            error = json.loads(events[-1].removeprefix(b"data: "))["error"]
            text = error if isinstance(error, str) else error["message"]
            assert "broke off" in text


@pytest.mark.parametrize("head", [{"Content-Length": "1000000"}, {}])
async def test_other_answers_that_break_are_never_taken_for_whole(head: dict[str, str]) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=head)
        await response.prepare(request)
        await response.write(b"a" * 500_000)
        await asyncio.sleep(0.05)
        return await reset(request)

    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        fakes["eu-1"].fault = cut
        with pytest.raises(aiohttp.ClientPayloadError):
            await router.infer()


async def test_a_client_that_leaves_before_the_answer_stops_the_work() -> None:
    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        fake = fakes["eu-1"]
        fake.fault = hang
        waiting = asyncio.get_running_loop().create_task(router.infer())
        await eventually(lambda: fake.inferences == 1)
        waiting.cancel()
        async with asyncio.timeout(10):
            await fake.cancelled.wait()
        await eventually(lambda: router.state.signals.in_flight("eu-1") == 0)
        assert router.state.errors_total == 0


async def test_a_small_answer_that_breaks_is_fetched_elsewhere() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"a" * 500)
        return await reset(request)

    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes)) as router:
        prefer(router, "eu-1", "us-1")
        fakes["eu-1"].fault = cut
        status, told, body = await router.infer()
        assert (status, json.loads(body)["by"], told["x-fed-attempts"]) == (200, "us-1", "2")


async def test_a_cluster_that_falls_silent_frees_its_requests() -> None:
    async with gateways("eu-1", "us-1") as fakes, router_for(urls(fakes), times=FAST) as router:
        fakes["us-1"].health_delay_s = 0.05
        await eventually(lambda: all(r for r, _, _ in router.state.health().values()))
        fakes["eu-1"].silent = True
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*(router.infer() for _ in range(20)))
        assert [status for status, _, _ in answers] == [200] * 20
        assert {json.loads(body)["by"] for _, _, body in answers} == {"us-1"}
        assert fakes["eu-1"].inferences > 0


async def test_a_deadline_is_kept_and_is_no_clusters_fault() -> None:
    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        fakes["eu-1"].fault = hang
        for _ in range(4):
            status, _, body = await router.infer(headers={"x-fed-deadline-ms": "50"})
            assert (status, "no answer within" in body.decode()) == (504, True)
        assert "open" not in repr(router.state.signals)
        status, _, _ = await router.infer(headers={"x-fed-deadline-ms": "soon"})
        assert status == 400


async def test_too_many_requests_are_refused_early() -> None:
    async with gateways("eu-1") as fakes, router_for(urls(fakes), admission=1) as router:
        fakes["eu-1"].delay_s = 0.3
        first = asyncio.get_running_loop().create_task(router.infer())
        await eventually(lambda: fakes["eu-1"].inferences == 1)
        status, told, _ = await router.infer()
        assert (status, told["retry-after"]) == (429, "1")
        assert (await first)[0] == 200
        assert (await router.infer())[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v2/models/digit/infer", b"{}", 404, "Did you mean 'digits'?"),
        ("POST", "/v2/models/digits/versions/7/infer", b"{}", 404, "no version '7'"),
        ("POST", "/v1/completions", b'{"model": "poett"}', 404, "Did you mean 'poet'?"),
        ("POST", "/v1/completions", b'{"model": "poet@best"}', 404, "no version or alias"),
        ("POST", "/v1/completions", b'{"model": ', 400, "not valid JSON"),
        ("POST", "/v1/completions", b'{"model": 3}', 400, "does not fit"),
        ("POST", "/v1/completions", b"{}", 400, "names no model"),
        ("POST", "/v1/chat/completions", b'{"model": "digits"}', 400, "/v2/models/digits/infer"),
        ("GET", "/v1/models/nothing", b"", 404, "There are:"),
        ("GET", "/v2/models/digits/infer", b"", 405, "takes POST"),
        ("POST", "/v2/repository/index", b"{}", 404, "nothing at"),
        ("GET", "/v2/models/digits/../x", b"", 404, ""),
    ],
)
async def test_bad_requests_get_one_sentence_in_their_dialect(
    method: str, path: str, body: bytes, status: int, words: str
) -> None:
    async with router_for({"eu-1": "http://127.0.0.1:9"}) as router:
        found, told, answer = await router.ask(method, path, body=body)
        error = json.loads(answer)["error"]
        assert found == status
        assert words in (error["message"] if path.startswith("/v1") else error)
        assert "x-request-id" in told


async def test_the_router_answers_for_itself() -> None:
    async with gateways("eu-1") as fakes, router_for(urls(fakes)) as router:
        _, _, body = await router.ask("GET", "/v2")
        assert json.loads(body)["name"] == "inference-federation"
        for path in ("/v2/health/live", "/v2/health/ready", "/healthz", "/v2/models/digits/ready"):
            assert (await router.ask("GET", path))[0] == 200
        _, _, body = await router.ask("GET", "/v1/models")
        assert [m["id"] for m in json.loads(body)["data"]] == ["digits", "poet", "private"]
        assert fakes["eu-1"].inferences == 0
        _, _, body = await router.ask("GET", "/v2/models/digits")
        assert json.loads(body)["versions"] == ["1", "2"]
        assert fakes["eu-1"].heads[0][0] == "/v2/models/digits/versions/2"
        for _ in range(3):
            router.state.signals.probed("eu-1", None, "gone", 0.0)
        status, _, body = await router.ask("GET", "/v2/models/digits/ready")
        assert (status, "not ready" in json.loads(body)["error"]) == (400, True)


async def test_without_a_table_the_router_says_so() -> None:
    async with router_for({}) as router:
        router.state.table = None
        assert (await router.ask("GET", "/v2/health/ready"))[0] == 503
        status, _, body = await router.infer()
        assert (status, "no routing table" in json.loads(body)["error"]) == (503, True)
