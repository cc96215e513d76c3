from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from federation.api.releases import Content, Releases
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.release import (
    Envelope,
    Release,
    envelope_bytes,
    parse_envelope,
    release_of,
    seal,
)
from federation.identity.release_key import ReleaseKey, open_release_key
from federation.runtime.clock import ManualClock
from federation.trust.signing import new_signing_key, public_key, sign_envelope, signers, verified
from tests.fakes.control_plane import Operator, package

OWNER, OTHER = new_signing_key(), new_signing_key()
OWNER_ID, OTHER_ID = public_key(OWNER), public_key(OTHER)
CONTENT = Content(model="m", digest="a" * 64, size=5, source="x")


class Documents:
    """Releases by digest."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.writes = 0

    async def document(self, _kind: str, digest: str) -> bytes:
        if digest not in self.held:
            raise NotFound("no such document.")
        return self.held[digest]

    async def put_document(self, _kind: str, digest: str, data: bytes) -> None:
        self.held[digest] = data
        self.writes += 1


class Bench:
    """Releases over documents in memory."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.key = open_release_key(directory)
        self.documents: Any = Documents()
        self.now = int(self.clock.utc().timestamp())

    def releases(self, key: ReleaseKey | None = None) -> Releases:
        return Releases(self.documents, key or self.key, self.clock)

    def offer(self, key: str | None = None, **other: Any) -> Envelope:
        values: dict[str, Any] = {
            "model": "m",
            "manifest": CONTENT.digest,
            "size": 5,
            "sequence": self.now * 1000,
            "created": self.now,
            "source": "x",
        }
        envelope = seal(Release(**(values | other)))
        return sign_envelope(key, envelope) if key else envelope

    async def push(
        self,
        offered: Envelope | None = None,
        *publishers: str,
        content: Content = CONTENT,
        newest: str = "",
    ) -> Release:
        """Agree and keep; returns what the kept release says."""
        releases = self.releases()
        agreed = await releases.agree(content, offered, publishers=publishers, newest=newest)
        await releases.keep(content.digest, agreed.envelope)
        self.signed_by = agreed.signed_by
        return verified(agreed.envelope, self.key.trusted)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_without_an_owner_the_federation_makes_the_release(bench: Bench) -> None:
    release = await bench.push()
    assert (release.model, release.manifest, release.size) == ("m", CONTENT.digest, 5)
    assert (release.sequence, release.created) == (bench.now * 1000, bench.now)
    assert (release.expires, release.floor, bench.signed_by) == (0, 0, ())


async def test_an_unsigned_offer_is_a_wish(bench: Bench) -> None:
    release = await bench.push(bench.offer(expires=bench.now + 9, floor=3, sequence=7))
    assert (release.expires, release.floor) == (bench.now + 9, 3)
    assert release.sequence == bench.now * 1000  # that is ours to say


async def test_an_owners_release_is_countersigned_as_it_is(bench: Bench) -> None:
    offered = bench.offer(OWNER, expires=bench.now + 9)
    release = await bench.push(offered, OWNER_ID)
    assert release == release_of(offered)
    held = parse_envelope(bench.documents.held[CONTENT.digest])
    assert signers(held, {OWNER_ID, bench.key.id}) == {OWNER_ID, bench.key.id}
    assert bench.signed_by == (OWNER_ID,)


async def test_a_models_publishers_must_sign(bench: Bench) -> None:
    for offered in (None, bench.offer(), bench.offer(OTHER)):
        with pytest.raises(Invalid, match="must be signed") as refusal:
            await bench.push(offered, OWNER_ID)
        assert "--sign-key" in refusal.value.hint
    await bench.push(bench.offer(OTHER), OWNER_ID, OTHER_ID)
    await bench.push(None, OTHER_ID)  # the same content, signed before


async def test_a_signature_that_is_wrong_is_refused(bench: Bench) -> None:
    good = bench.offer(OWNER)
    forged = replace(bench.offer(), signatures=good.signatures, payload=bench.offer(size=6).payload)
    with pytest.raises(Invalid, match="wrong"):
        await bench.push(forged)
    nonsense = replace(good.signatures[0], keyid="zz")
    with pytest.raises(Invalid, match="wrong"):
        await bench.push(replace(good, signatures=(nonsense,)))


@pytest.mark.parametrize(
    "other",
    [{"model": "n"}, {"manifest": "b" * 64}, {"size": 6}, {"source": "y"}],
)
@pytest.mark.parametrize("key", [None, OWNER])
async def test_a_release_of_another_content_is_refused(
    bench: Bench, key: str | None, other: dict[str, Any]
) -> None:
    with pytest.raises(Invalid, match="speaks of"):
        await bench.push(bench.offer(key, **other))


async def test_numbers_that_make_no_sense_are_refused(bench: Bench) -> None:
    now = bench.now
    for other, told in (
        ({"expires": now}, "expired"),
        ({"created": now + 700}, "future"),
        ({"sequence": (now + 700) * 1000}, "future"),
        ({"floor": now * 1000 + 1}, "nobody could load"),
    ):
        with pytest.raises(Invalid, match=told):
            await bench.push(bench.offer(OWNER, **other))
    assert bench.documents.held == {}


async def test_sequences_only_grow(bench: Bench) -> None:
    first = await bench.push()
    second_content = replace(CONTENT, digest="b" * 64)
    second = await bench.push(content=second_content, newest=CONTENT.digest)
    assert second.sequence == first.sequence + 1  # within the same millisecond
    third = replace(CONTENT, digest="c" * 64)
    stale = bench.offer(OWNER, manifest=third.digest, sequence=second.sequence)
    with pytest.raises(Conflict, match="not above"):
        await bench.push(stale, content=third, newest=second_content.digest)


async def test_the_same_content_keeps_its_release_unless_something_new_is_said(
    bench: Bench,
) -> None:
    first = await bench.push(bench.offer(OWNER))
    bench.clock.advance(5)
    later = {"sequence": (bench.now + 5) * 1000, "created": bench.now + 5}
    assert await bench.push() == first
    assert await bench.push(bench.offer(OWNER, **later)) == first
    assert bench.signed_by == (OWNER_ID,)
    renewed = await bench.push(bench.offer(OWNER, expires=bench.now + 99, **later))
    assert (renewed.expires, renewed.sequence) == (bench.now + 99, later["sequence"])
    other = {"sequence": (bench.now + 6) * 1000, "expires": bench.now + 99}
    assert (await bench.push(bench.offer(OTHER, **other))).sequence == other["sequence"]
    assert bench.signed_by == (OTHER_ID,)


async def test_a_new_release_key_signs_what_is_read(bench: Bench, tmp_path: Path) -> None:
    await bench.push()
    (tmp_path / "release" / "key.pem").unlink()
    new = open_release_key(tmp_path)
    bench.documents.writes = 0
    first, envelope = [await bench.releases(new).read(CONTENT.digest) for _ in range(2)]
    assert first == envelope
    assert signers(envelope, new.trusted) == set(new.trusted)
    assert bench.documents.writes == 1
    stranger = sign_envelope(OTHER, seal(release_of(envelope)))
    bench.documents.held[CONTENT.digest] = envelope_bytes(stranger)
    assert await bench.releases(new).read(CONTENT.digest) == stranger  # never made good
    with pytest.raises(NotFound):
        await bench.releases().read("b" * 64)


async def test_publishers_are_demanded_over_the_api(api: Operator) -> None:
    assert (await api.push("m", b"one")).status == 201
    spec = {"publishers": [OWNER_ID]}
    assert (await api.put("Model", "m", spec)).status == 200
    refused = await api.push("m", b"two")
    assert (refused.status, refused.json["reason"]) == (400, "unsigned")
    _, manifest, text = package("m", b"two")
    checked = await api.call("POST", "/api/v1/models/m/versions?dryRun=true", {
        "package": text, "manifest": manifest,
    })  # fmt: skip
    assert checked.status == 400
    assert (await api.call("GET", "/api/v1/models/m")).json["status"]["latest"] == 1
