"""The part of the fake control plane that keeps packages: chunks, manifests, releases.

Input: calls of `fed model`; faults that a test switches on. Output: answers as the operator API
gives them, and what was uploaded.
"""

import json
from typing import Any, Protocol

import msgspec
from blake3 import blake3

from federation.chunking.encoding import decode
from federation.contract.locations import (
    FRAME_BYTES,
    Locations,
    PackSource,
    Place,
    pack_places,
    unpack_frame,
)
from federation.contract.manifest import distinct_chunks, manifest_bytes
from federation.contract.release import Envelope, Release, envelope_bytes, seal
from federation.contract.types import Manifest
from federation.trust.signing import new_signing_key, public_key, sign_envelope

Json = dict[str, Any]
RELEASE_KEY = new_signing_key()
COLLECTED = {
    "packs": 3,
    "packs_removed": 1,
    "packs_rewritten": 1,
    "documents_removed": 2,
    "bytes_before": 2000,
    "bytes_freed": 1000,
}


class Refusal(Exception):
    """An answer that is a problem document."""

    def __init__(self, status: int, reason: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.problem = {"status": status, "reason": reason, "detail": detail, "hint": hint}


class Objects(Protocol):
    """The documents of the fake control plane."""

    objects: dict[str, dict[str, Json]]

    def find(self, plural: str, name: str) -> Json: ...

    def put(self, plural: str, name: str, spec: Json, status: Json | None = None) -> Json: ...


class FakeStore:
    """Chunks by digest, documents by model, version and kind."""

    def __init__(self, plane: Objects) -> None:
        self._plane = plane
        self.chunks: dict[bytes, bytes] = {}
        self.documents: dict[tuple[str, str, str], bytes] = {}
        self.uploads: list[int] = []  # how many chunks each brought
        self.cut_uploads: list[int] = []  # break the next ones off after so many bytes
        self.max_upload = 1 << 20
        self.pushed: list[Json] = []
        self.damage: list[Json] = []
        self.collected: list[Json] = []

    def answer(
        self, method: str, parts: list[str], query: dict[str, str], body: bytes
    ) -> Json | None:
        """Carry out a call that is about packages; None if it is about something else."""
        match method, parts[2:]:
            case "POST", ["chunks"]:
                return self._upload(body)
            case "POST", ["gc"]:
                self.collected.append({**json.loads(body), **query})
                return COLLECTED
            case "POST", ["models", model, "versions", version, "verify"]:
                told = {"model": model, "version": int(version) or 1, "digest": "d" * 64}
                return {**told, "size": 5, "damage": self.damage}
            case "POST", ["models", model, "versions"]:
                return self._push(model, json.loads(body))
            case "GET", ["trust"]:
                return {"releaseKeys": [public_key(RELEASE_KEY)]}
            case "GET", ["models", model, "versions", version]:
                return self._version(model, version)
            case _:
                return None

    def bytes_answer(self, method: str, parts: list[str], body: bytes) -> bytes | None:
        """Carry out a call whose answer is no JSON; None if this is none."""
        match method, parts[2:]:
            case "POST", ["chunks", "missing"]:
                digests = [body[at : at + 32] for at in range(0, len(body), 32)]
                return bytes(digest not in self.chunks for digest in digests)
            case "GET", ["models", model, "versions", version, kind]:
                number = str(self._version(model, version)["version"])
                return self.documents.get((model, number, kind))
            case _:
                return None

    def _upload(self, body: bytes) -> Json:
        if len(body) > self.max_upload:
            raise Refusal(413, "too-large", "the body is longer than the limit.")
        at = count = 0
        while at + FRAME_BYTES <= len(body):
            frame = unpack_frame(body[at : at + FRAME_BYTES])
            stored = body[at + FRAME_BYTES : at + FRAME_BYTES + frame.stored]
            if len(stored) < frame.stored:
                break
            data = decode(stored, frame.code, frame.length)
            if blake3(data).digest() != frame.digest:
                raise Refusal(400, "invalid", "the bytes do not match their digest.")
            self.chunks[frame.digest] = data
            at, count = at + FRAME_BYTES + frame.stored, count + 1
        self.uploads.append(count)
        return {"chunks": count, "bytes": at}

    def _version(self, model: str, wanted: str) -> Json:
        versions = self._plane.find("models", model)["status"]["versions"]
        number = int(wanted) or len(versions)
        if not 0 < number <= len(versions):
            raise Refusal(404, "not-found", f"model {model!r} has no version {wanted}.")
        return {"model": model, **versions[number - 1]}

    def _push(self, model: str, pushed: Json) -> Json:
        self.pushed.append(pushed)
        manifest = msgspec.convert(pushed["manifest"], Manifest)
        absent = set(distinct_chunks(manifest)) - set(self.chunks)
        if absent:
            raise Refusal(409, "missing-chunks", f"{len(absent)} chunks are not stored.")
        data = manifest_bytes(manifest)
        digest = blake3(data).hexdigest()
        held = self._plane.objects["models"].get(model)
        versions = list(held["status"]["versions"]) if held else []
        for version in versions:
            if version["digest"] == digest:
                return {**_pushed(model, version), "created": False}
        number = len(versions) + 1
        version = {"version": number, "digest": digest, "runtime": "onnx", "size": 5}
        release = Release(
            model=model, manifest=digest, size=manifest.size, sequence=number, created=1
        )
        given = msgspec.convert(pushed["release"], Envelope) if "release" in pushed else None
        signed = envelope_bytes(sign_envelope(RELEASE_KEY, given or seal(release)))
        self.documents[model, str(number), "manifest"] = data
        self.documents[model, str(number), "locations"] = _locations(manifest)
        self.documents[model, str(number), "release"] = signed
        status = {"versions": [*versions, version], "latest": number}
        self._plane.put("models", model, held["spec"] if held else {"aliases": {}}, status)
        return {**_pushed(model, version), "created": True}


def _locations(manifest: Manifest) -> bytes:
    """Tell that all chunks lie raw in one pack, which nobody serves."""
    places, at = [], 0
    for length in distinct_chunks(manifest).values():
        places.append(Place(0, at, length))
        at += length
    source = PackSource(id="a" * 64, url="/packs/a")
    return msgspec.json.encode(Locations(packs=(source,), places=pack_places(places)))


def _pushed(model: str, version: Json) -> Json:
    return {"model": model, "version": version["version"], "digest": version["digest"]}
