"""Who may read the log, what a page holds, and that a page is what was written."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from federation.api.audit import AuditedAct, AuditPage
from federation.policy.audit import chain
from federation.policy.audit.records import START, Head
from tests.fakes.control_plane import Answer, Operator, operator, running
from tests.federation.api.test_documents import check


async def some_changes(api: Operator) -> None:
    await api.register("c1")
    await api.join(await api.register("c2"))
    await api.push("m")
    await api.call("POST", "/api/v1/clusters/c1/cordon")


async def whole(api: Operator, limit: int = 2) -> list[Any]:
    """Read all pages."""
    entries: list[Any] = []
    after = 0
    while True:
        page = (await api.call("GET", f"/api/v1/audit?after={after}&limit={limit}")).json
        entries += page["entries"]
        assert len(page["entries"]) <= limit
        if page["next"] == after:
            return entries
        after = page["next"]


async def test_every_change_is_there_and_the_chain_leads_to_the_head(api: Operator) -> None:
    await some_changes(api)
    entries = await whole(api)
    assert [(e["action"], e["name"]) for e in entries] == [
        ("RegionApplied", "eu-west"),
        ("ClusterRegistered", "c1"),
        ("ClusterRegistered", "c2"),
        ("PeerJoined", "c2"),
        ("ModelVersionPushed", "m"),
        ("ClusterSchedulingChanged", "c1"),
    ]
    assert {e["actor"] for e in entries} == {"admin/local", "cluster/c2"}
    assert {e["source"] for e in entries} == {"127.0.0.1"}
    assert all(len(e["request_id"]) == 32 for e in entries)
    head = (await api.call("GET", "/api/v1/audit/head")).json
    assert chain.verify(entries) == Head(**head)


async def test_a_request_id_leads_from_the_answer_to_the_entry(api: Operator) -> None:
    await some_changes(api)
    answer = await api.call("POST", "/api/v1/clusters/c1/uncordon")
    entry = (await whole(api))[-1]
    assert entry["request_id"] == answer.headers["x-request-id"]


async def test_what_changes_nothing_leaves_no_entry(api: Operator) -> None:
    await some_changes(api)
    before = (await api.call("GET", "/api/v1/audit/head")).json
    await api.call("POST", "/api/v1/clusters/c1/cordon")
    await api.call("POST", "/api/v1/clusters/c1/drain?dryRun=true")
    await api.call("GET", "/api/v1/audit")
    assert (await api.call("GET", "/api/v1/audit/head")).json == before


async def test_a_repeated_call_leaves_one_entry(api: Operator) -> None:
    await some_changes(api)
    for _ in range(2):
        await api.call("POST", "/api/v1/clusters/c1/drain", headers={"Idempotency-Key": "k"})
    assert [e["reason"] for e in await whole(api)][-2:] == ["ClusterCordoned", "ClusterDraining"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("kind=Model", ["m"]),
        ("actor=cluster/c2", ["c2"]),
        ("kind=Cluster&limit=1", ["c1"]),
        ("since=2020-01-01T00:00:00Z&kind=Region", ["eu-west"]),
        ("since=2020-01-01T00:00:00%2B02:00&kind=Region", ["eu-west"]),
        ("since=2999-01-01T00:00:00Z", []),
        ("actor=nobody", []),
    ],
)
async def test_filters(api: Operator, query: str, names: list[str]) -> None:
    await some_changes(api)
    page = (await api.call("GET", f"/api/v1/audit?{query}")).json
    assert [e["name"] for e in page["entries"]] == names


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=-1",
        "after=1e3",
        f"after={'9' * 40}",
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "since=0001-01-01T00:00:00%2B23:00",
        "until=now",
    ],
)
async def test_a_bad_question_is_refused(api: Operator, query: str) -> None:
    answer = await api.call("GET", f"/api/v1/audit?{query}")
    assert (answer.status, answer.json["reason"]) == (400, "invalid")


async def test_an_empty_log(api: Operator) -> None:
    assert (await api.call("GET", "/api/v1/audit")).json == {"entries": [], "next": 0}
    assert Head(**(await api.call("GET", "/api/v1/audit/head")).json) == START


async def test_the_types_tell_what_is_answered(api: Operator) -> None:
    await some_changes(api)
    page = (await api.call("GET", "/api/v1/audit")).json
    check(page, AuditPage)
    check(page["entries"][0], AuditedAct)
    check((await api.call("GET", "/api/v1/audit/head")).json, Head)


@pytest.mark.parametrize("path", ["/api/v1/audit", "/api/v1/audit/head"])
@pytest.mark.parametrize("role", ["viewer", "model-owner", "operator"])
async def test_only_admins_read_it(api: Operator, path: str, role: str) -> None:
    made = await api.call("POST", "/api/v1/keys/ada", {"grants": [{"role": role}]})
    key = {"Authorization": f"Bearer {made.json['text']}"}
    assert (await api.call("GET", path, headers=key)).status == 403
    assert (await api.call("GET", path, headers={"Authorization": ""})).status == 401


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
async def test_nobody_writes_it(api: Operator, method: str) -> None:
    assert (await api.call(method, "/api/v1/audit")).status == 405
    assert (await api.call(method, "/api/v1/audit/head")).status == 405


HOSTILE = [
    "no JSON at all",
    '{"id": 3, "id": 3}',
    json.dumps({"id": 3, "message": "\ud800"}),
    '{"id": 1e999, "count": NaN}',
    '{"id": 3, "count": ' + "9" * 4000 + "}",
    "[" * 5000,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_forged_line_is_shown_as_broken_and_stops_nobody(tmp_path: Path, line: str) -> None:
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        await some_changes(api)
        with closing(sqlite3.connect(tmp_path / "federation.db")) as database:
            database.execute("DROP TRIGGER audit_no_update")
            database.execute("UPDATE audit SET json = ? WHERE id = 3", (line,))
            database.commit()
        page: Answer = await api.call("GET", "/api/v1/audit")
        assert page.status == 200, page.body
        entries = page.json["entries"]
        assert (len(entries), page.json["next"]) == (6, 6)
        verdict = chain.verify(entries)
        assert isinstance(verdict, chain.Broken)
        assert verdict.id == 3


async def test_the_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    entries: list[Any] = []
    for name in ("c1", "c2", "c3"):
        async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
            await api.register(name)
            entries, head = await whole(api), (await api.call("GET", "/api/v1/audit/head")).json
            assert plane.loop.state.audit_head["head"] == Head(**head) == chain.verify(entries)
    assert [e["name"] for e in entries] == ["eu-west", "c1", "c2", "c3"]
