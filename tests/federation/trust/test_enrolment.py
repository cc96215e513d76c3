"""Joining and renewing against the open routes, over real TLS."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from federation.contract.errors import Conflict, Invalid, Unauthenticated, Unavailable
from federation.contract.spiffe import PeerRole
from federation.trust.credentials import Credentials
from federation.trust.enrolment import JOINING_FILE, Enrolment
from tests.fakes.enrolling import EnrollingPlane, refusal
from tests.pki import make_authority

CLUSTER, ROUTER = PeerRole.CLUSTER, PeerRole.ROUTER


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[EnrollingPlane]:
    plane = EnrollingPlane(make_authority(tmp_path))
    await plane.start()
    yield plane
    await plane.stop()


def enrolment(
    plane: EnrollingPlane, tmp_path: Path, *, token: str = "", name: str = "eu", **contact: object
) -> Enrolment:
    path = tmp_path / "token"
    if token:
        path.write_text(f"{token}\n")
    credentials = Credentials(tmp_path / "identity")
    return Enrolment(credentials, plane.contact(path, **contact), role=CLUSTER, name=name)


async def test_a_token_and_a_pin_become_an_identity_on_disk(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    joining.check()
    assert await joining.join()
    again = Credentials(tmp_path / "identity")
    leaf, trust = again.require()
    assert leaf.facts.id.uri == "spiffe://fed.test/cluster/eu"
    assert trust == plane.trust()
    assert not (tmp_path / "identity" / JOINING_FILE).exists()
    assert (tmp_path / "identity" / "identity.pem").stat().st_mode & 0o777 == 0o600
    assert [verb for verb, _ in plane.seen] == ["trust", "join"]
    assert "fed_join" not in json.dumps(plane.seen[0]) + repr(joining)


async def test_a_router_joins_alike(plane: EnrollingPlane, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(plane.admit(ROUTER, "r-1"))
    credentials = Credentials(None)
    contact = plane.contact(tmp_path / "token")
    assert await Enrolment(credentials, contact, role=ROUTER, name="r-1").join()
    assert credentials.require()[0].facts.id.role is ROUTER


async def test_whoever_lacks_the_pinned_root_gets_nothing(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    token = plane.admit(CLUSTER, "eu")
    joining = enrolment(plane, tmp_path, token=token, pin="sha256:" + "0" * 64)
    with pytest.raises(Unauthenticated, match="does not have the root") as caught:
        await joining.join()
    assert caught.value.reason == "wrong-ca"
    assert [verb for verb, _ in plane.seen] == ["trust"]


async def test_whoever_only_shows_the_pinned_root_gets_nothing(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    """The root is public: anybody can answer with it, but not prove to be below it."""
    impostor = EnrollingPlane(make_authority(tmp_path / "impostor"))
    await impostor.start()
    try:
        impostor.override = web.json_response(
            {"version": 1, "trustDomain": "fed.test", "roots": list(plane.trust().roots)}
        )
        token = plane.admit(CLUSTER, "eu")
        joining = enrolment(plane, tmp_path, token=token, url=impostor.url)
        with pytest.raises(Unauthenticated, match="does not prove") as caught:
            await joining.join()
    finally:
        await impostor.stop()
    assert caught.value.reason == "wrong-ca"
    assert [verb for verb, _ in impostor.seen] == ["trust"]
    assert joining.credentials.leaf is None


async def test_another_authority_later_is_no_control_plane_of_ours(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    await joining.join()
    await plane.stop()
    other = EnrollingPlane(make_authority(tmp_path / "other"))
    other.port = plane.port
    await other.start()
    before = joining.credentials.leaf
    with pytest.raises(Unauthenticated) as caught:
        await joining.renew()
    await other.stop()
    assert caught.value.reason == "wrong-ca"
    assert other.seen == []
    assert joining.credentials.leaf is before


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    token = plane.admit(CLUSTER, "eu")
    plane.lose = 1
    with pytest.raises(Unavailable):
        await enrolment(plane, tmp_path, token=token).join()
    assert (tmp_path / "identity" / JOINING_FILE).stat().st_mode & 0o777 == 0o600
    assert await enrolment(plane, tmp_path).join()  # another process, the same directory
    assert plane.issued == 2
    assert len(plane.used) == 1


async def test_a_token_that_another_key_used_is_refused_in_the_planes_words(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    token = plane.admit(CLUSTER, "eu")
    await enrolment(plane, tmp_path, token=token).join()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(Conflict, match="used by another key") as caught:
        await enrolment(plane, elsewhere, token=token).join()
    assert (caught.value.reason, caught.value.hint) == ("join-token-used", "Ask for another.")


async def test_a_cluster_waits_for_the_operator(plane: EnrollingPlane, tmp_path: Path) -> None:
    plane.waiting = True
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    assert not await joining.join()
    assert not await joining.join()
    plane.waiting = False
    assert await joining.join()
    assert len(plane.used) == 1


async def test_the_token_is_read_at_each_try(plane: EnrollingPlane, tmp_path: Path) -> None:
    joining = enrolment(plane, tmp_path, token="fed_join_eu_" + "x" * 43)
    with pytest.raises(Unauthenticated, match="unknown or expired"):
        await joining.join()
    (tmp_path / "token").write_text(plane.admit(CLUSTER, "eu"))
    assert await joining.join()


@pytest.mark.parametrize("text", ["", "secret", "fed_join_us_x", "fed_routerjoin_eu_x"])
async def test_a_token_for_somebody_else_is_not_spent(
    plane: EnrollingPlane, tmp_path: Path, text: str
) -> None:
    joining = enrolment(plane, tmp_path, token="x")
    (tmp_path / "token").write_text(text)
    with pytest.raises(Invalid, match="holds no join token of the cluster 'eu'") as caught:
        await joining.join()
    assert "fed cluster register eu" in caught.value.hint
    assert not await joining.has_token()
    assert plane.seen == []


async def test_renewal_changes_key_and_trust(plane: EnrollingPlane, tmp_path: Path) -> None:
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    await joining.join()
    before = joining.credentials.require()[0]
    plane.authority.add_root()
    plane.trust_version = 2
    await joining.renew()
    leaf, trust = Credentials(tmp_path / "identity").require()
    assert leaf.key != before.key
    assert len(trust.roots) == 2
    assert joining.credentials.leaf == leaf


async def test_a_proof_by_the_wrong_key_is_refused(plane: EnrollingPlane, tmp_path: Path) -> None:
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    await joining.join()
    from federation.trust.keys import new_key

    leaf = joining.credentials.require()[0]
    joining.credentials.install(leaf.certificate, new_key())
    with pytest.raises(Unauthenticated, match="did not sign"):
        await joining.renew()


async def test_answers_that_are_not_for_us_are_not_installed(
    plane: EnrollingPlane, tmp_path: Path
) -> None:
    token = plane.admit(CLUSTER, "eu")
    plane.tokens[token] = plane.tokens[plane.admit(CLUSTER, "us")]
    joining = enrolment(plane, tmp_path, token=token)
    with pytest.raises(Invalid, match=r"cluster/us, not of the cluster 'eu'"):
        await joining.join()
    assert joining.credentials.leaf is None
    assert (tmp_path / "identity" / JOINING_FILE).exists()


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=302, headers={"Location": "https://127.0.0.1:1/"}),
        web.Response(text="hello"),
        web.Response(text="[]", status=500),
        web.Response(body=b" " * (5 << 20)),
    ],
)
async def test_what_is_no_control_plane_is_told(
    plane: EnrollingPlane, tmp_path: Path, answer: web.Response
) -> None:
    plane.override = answer
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    with pytest.raises(Unavailable, match="not as a control plane does"):
        await joining.join()


async def test_a_refusal_is_kept_in_class_and_words(plane: EnrollingPlane, tmp_path: Path) -> None:
    plane.override = refusal(503, "shutting down.", "unavailable")
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    with pytest.raises(Unavailable, match="shutting down"):
        await joining.join()


async def test_nobody_there_is_unavailable(plane: EnrollingPlane, tmp_path: Path) -> None:
    await plane.stop()
    joining = enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu"))
    with pytest.raises(Unavailable, match="cannot reach the control plane"):
        await joining.join()


async def test_no_proxy_is_asked(
    plane: EnrollingPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu")).join()


async def test_check_tells_what_is_missing(plane: EnrollingPlane, tmp_path: Path) -> None:
    no_file = Enrolment(Credentials(None), plane.contact(), role=ROUTER, name="r")
    with pytest.raises(Invalid, match="no join token") as caught:
        no_file.check()
    assert "fed router register r" in caught.value.hint
    with pytest.raises(Invalid, match="no root to trust"):
        enrolment(plane, tmp_path, pin="").check()
    await enrolment(plane, tmp_path, token=plane.admit(CLUSTER, "eu")).join()
    enrolment(plane, tmp_path, pin="").check()
    with pytest.raises(Invalid, match="not of the cluster 'us'"):
        enrolment(plane, tmp_path, name="us").check()
