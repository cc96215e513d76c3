import asyncio
from pathlib import Path

import pytest

from federation.artifacts.documents import Documents, document_key
from federation.artifacts.objects_local import LocalObjects
from federation.contract.errors import Invalid, NotFound
from federation.runtime.clock import ManualClock
from tests.federation.artifacts.packing import digest

DATA = b"{}"
NAME = digest(DATA).hex()


async def test_putting_a_document_makes_it_young_and_whole(tmp_path: Path) -> None:
    objects, clock = LocalObjects(tmp_path), ManualClock()
    documents = Documents(objects, asyncio.Lock(), clock)
    await objects.put(f"manifests/{NAME}", b"rotten")
    clock.advance(5)
    await documents.put("manifest", NAME, DATA)
    assert await documents.get("manifest", NAME) == DATA
    assert documents.touched == {f"manifests/{NAME}": clock.utc().timestamp()}
    with pytest.raises(Invalid):
        await documents.put("manifest", NAME, b"other")
    with pytest.raises(NotFound, match=NAME):
        await documents.get("release", NAME)


def test_keys_are_built_of_known_kinds_and_digests() -> None:
    assert document_key("release", NAME) == f"releases/{NAME}"
    for kind, name in [("packs", NAME), ("manifest", "../x"), ("", NAME)]:
        with pytest.raises(Invalid):
            document_key(kind, name)
