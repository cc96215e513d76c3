import asyncio

import pytest

from federation.app import ControlPlane
from federation.contract.spiffe import PeerRole
from federation.contract.v1 import federation_pb2 as pb
from tests.fakes.control_plane import Operator, router_hello, stream

PATH = "/api/v1/routes/explain"


async def test_connected_routers_explain(api: Operator, plane: ControlPlane) -> None:
    held = await api.member("r", PeerRole.ROUTER)
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        await router.expect("snapshot")
        asking = asyncio.create_task(
            api.call("GET", f"{PATH}?model=m@2&from=2001:DB8:0::1&client=u-7")
        )
        question = await router.expect("explain")
        assert (question.model, question.client_address) == ("m@2", "2001:db8::1")
        assert question.client_key == "u-7"
        answer = pb.Explanation(id=question.id, document_json='{"pick": "a"}')
        await router.send(pb.RouterMessage(explanation=answer))
        told = (await asking).json["routers"]
    assert told == [
        {
            "router": "r",
            "url": "http://127.0.0.1:7400",
            "explanation": {"pick": "a"},
            "error": "",
        }
    ]


async def test_they_tell_of_a_request_that_is_over(api: Operator, plane: ControlPlane) -> None:
    held = await api.member("r", PeerRole.ROUTER)
    async with stream(plane, "router", held) as router:
        await router.send(router_hello("r"))
        await router.expect("snapshot")
        asking = asyncio.create_task(api.call("GET", f"{PATH}?request=abc-1"))
        question = await router.expect("explain")
        assert (question.request_id, question.model) == ("abc-1", "")
        answer = pb.Explanation(id=question.id, error="remembers nothing.")
        await router.send(pb.RouterMessage(explanation=answer))
        (told,) = (await asking).json["routers"]
    assert told["error"] == "remembers nothing."


async def test_without_routers_there_is_nothing_to_tell(api: Operator) -> None:
    answer = await api.call("GET", f"{PATH}?model=m&from=192.0.2.1")
    assert (answer.status, answer.json) == (200, {"routers": []})


@pytest.mark.parametrize(
    "query",
    [
        *("", "?model=m", "?from=192.0.2.1", "?model=m&from=nowhere", "?model=m&form=1.2.3.4"),
        *("?request=" + "a" * 129, "?request=a&model=m"),
    ],
)
async def test_incomplete_questions(api: Operator, query: str) -> None:
    answer = await api.call("GET", PATH + query)
    assert answer.status == 400
    assert answer.json["hint"]
