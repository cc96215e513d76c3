from collections.abc import Sequence

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from federation.contract.errors import NotFound, PermissionDenied, Unauthenticated
from federation.relay.http1.messages import Request
from router.policy.access import EVERYONE
from router.policy.quota import OverQuota, Quotas
from router.request.door import Door, is_ours, shown_key
from tests.fakes.requests import request_of
from tests.router.access_world import KEYS, access, state_with

ACME, SMALL = KEYS["acme"], KEYS["small"]
INFER = "/v2/models/digits/infer"


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        ((), None),
        ((("Authorization", "Bearer abc"),), "abc"),
        ((("authorization", "bearer  abc "),), "abc"),
        ((("Authorization", "Bearer"),), None),
        ((("Authorization", ""),), None),
        ((("X-Api-Key", " abc "),), "abc"),
        ((("x-api-key", ""),), None),
        ((("Authorization", "Bearer"), ("x-api-key", "abc")), "abc"),
        ((("Authorization", "Bearer abc"), ("x-api-key", "def")), "abc"),
        ((("Authorization", "Basic YTpi"),), "b"),
        ((("Authorization", "basic OmI6Yw=="),), "b:c"),
        ((("Authorization", "Basic YTo="),), None),
    ],
)
def test_where_a_key_is_looked_for(pairs: Sequence[tuple[str, str]], key: str | None) -> None:
    assert shown_key(headers(*pairs)) == key


@pytest.mark.parametrize(
    "pairs",
    [
        (("Authorization", "Basic YTpi!"),),
        (("Authorization", "Basic /////w=="),),
        (("Authorization", "Digest YTpi"),),
        (("Authorization", "fed_key_a_b"),),
        (("Authorization", "Bearer a"), ("Authorization", "Bearer b")),
        (("x-api-key", "a"), ("x-api-key", "b")),
    ],
)
def test_what_is_no_single_key_is_refused(pairs: Sequence[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        shown_key(headers(*pairs))
    assert "YTpi" not in caught.value.sentence()


@pytest.mark.parametrize("text", [None, "", "EMPTY", "sk-123"])
def test_a_placeholder_is_no_key_of_ours(text: str | None) -> None:
    assert not is_ours(text)


def door(*, anonymous: bool = False, quotas: Quotas | None = None) -> Door:
    return Door(state=state_with(access(), anonymous=anonymous), quotas=quotas or Quotas())


def ask(path: str, key: str = "", *, method: str = "POST", expect: bool = False) -> Request:
    head = {"Authorization": f"Bearer {key}"} if key else {}
    head |= {"Expect": "100-continue"} if expect else {}
    return request_of(method, path, head)


def test_a_head_is_judged_once_and_kept() -> None:
    house, request = door(), ask(INFER, ACME)
    house.admit(request)
    visit = house.visit(request)
    assert visit is not None
    assert (visit.caller.tenant.name, visit.target.model) == ("acme", "digits")
    assert visit.is_inference
    house.admit(request)
    assert house.visit(request) is visit


@pytest.mark.parametrize("path", ["/healthz", "/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_key(path: str) -> None:
    house, request = door(), ask(path, method="GET")
    house.admit(request)
    visit = house.visit(request)
    assert (visit is None) == (path == "/healthz")


@pytest.mark.parametrize(
    ("path", "method"), [("/v2", "GET"), ("/v1/models", "GET"), (INFER, "POST")]
)
def test_everything_else_needs_one(path: str, method: str) -> None:
    for key, reason in (("", "missing-key"), ("abc", "malformed-key"), (ACME + "x", "unknown-key")):
        with pytest.raises(Unauthenticated) as caught:
            door().admit(ask(path, key, method=method))
        assert caught.value.reason == reason
        assert not key or key not in caught.value.sentence()


def test_a_path_that_does_not_exist_is_told_to_everybody() -> None:
    with pytest.raises(NotFound):
        door().admit(ask("/v1/images"))


def test_a_model_in_the_path_is_checked_before_it_is_looked_up() -> None:
    for model in ("poet", "nothing"):
        with pytest.raises(PermissionDenied) as caught:
            door().admit(ask(f"/v2/models/{model}/infer", SMALL))
        assert caught.value.reason == "model-not-allowed"


def test_everyone_may_come_in_without_a_key_but_not_with_a_wrong_one() -> None:
    house = door(anonymous=True)
    for key in ("", "EMPTY"):
        request = ask(INFER, key)
        house.admit(request)
        assert getattr(house.visit(request), "caller", None) is EVERYONE
    for key in (ACME + "x", "fed_user_a_b", "fed_key_"):
        with pytest.raises(Unauthenticated):
            house.admit(ask(INFER, key))
    assert repr(house) == "Door(open to everyone)"


def test_an_open_door_is_told_loudly(caplog: pytest.LogCaptureFixture) -> None:
    door()
    assert not caplog.records
    door(anonymous=True)
    assert ["WITHOUT a key" in record.getMessage() for record in caplog.records] == [True]


def test_a_client_that_waits_for_100_continue_hears_of_its_limit_and_pays_nothing() -> None:
    quotas = Quotas()
    house = door(quotas=quotas)
    for _ in range(5):
        house.admit(ask(INFER, SMALL, expect=True))
    request = ask(INFER, SMALL)
    house.admit(request)
    visit = house.visit(request)
    assert visit is not None
    with quotas.hold(visit.caller.tenant, house._state.clock.monotonic_s()):
        pass
    with pytest.raises(OverQuota):
        house.admit(ask(INFER, SMALL, expect=True))
