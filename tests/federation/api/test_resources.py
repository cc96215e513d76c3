from typing import Any

import pytest

from tests.fakes.control_plane import LOCATION, Operator

REGION = {"location": LOCATION}


def document(**changes: object) -> dict[str, Any]:
    base = {
        "apiVersion": "federation/v1",
        "kind": "Region",
        "metadata": {"name": "eu-west"},
        "spec": REGION,
    }
    return base | changes


async def test_an_object_is_created_read_listed_changed_and_deleted(api: Operator) -> None:
    created = await api.put("Region", "eu-west", REGION)
    assert created.status == 201
    assert created.json["metadata"]["generation"] == 1
    read = await api.call("GET", "/api/v1/regions/eu-west")
    assert read.json == created.json
    changed = await api.put("Region", "eu-west", {"location": {"latitude": 1, "longitude": 2}})
    assert (changed.status, changed.json["metadata"]["generation"]) == (200, 2)
    listed = await api.call("GET", "/api/v1/regions")
    assert listed.json["kind"] == "RegionList"
    assert listed.json["items"] == [changed.json]
    deleted = await api.call("DELETE", "/api/v1/regions/eu-west")
    assert (deleted.status, deleted.json["metadata"]["name"]) == (200, "eu-west")
    assert (await api.call("GET", "/api/v1/regions/eu-west")).status == 404


async def test_what_was_read_can_be_sent_back(api: Operator) -> None:
    created = await api.put("Region", "eu-west", REGION)
    again = await api.call("PUT", "/api/v1/regions/eu-west", created.json)
    assert (again.status, again.json["metadata"]["generation"]) == (200, 1)


async def test_a_stale_resource_version_is_refused(api: Operator) -> None:
    first = await api.put("Region", "eu-west", REGION)
    version = first.json["metadata"]["resourceVersion"]
    other = {"location": {"latitude": 1, "longitude": 2}}
    assert (await api.put("Region", "eu-west", other, resourceVersion=version)).status == 200
    stale = await api.put("Region", "eu-west", REGION, resourceVersion=version)
    assert (stale.status, stale.json["reason"]) == (409, "stale-version")
    path = f"/api/v1/regions/eu-west?resourceVersion={version}"
    assert (await api.call("DELETE", path)).status == 409
    kept = await api.call("GET", "/api/v1/regions/eu-west")
    assert kept.json["spec"]["location"]["latitude"] == 1


async def test_a_dry_run_answers_and_changes_nothing(api: Operator) -> None:
    answer = await api.call("PUT", "/api/v1/regions/eu-west?dryRun=true", document())
    assert answer.status == 201
    assert answer.json["spec"] == {**REGION, "time_zone": "UTC", "freeze": []}
    assert (await api.call("GET", "/api/v1/regions")).json["items"] == []
    await api.put("Region", "eu-west", REGION)
    assert (await api.call("DELETE", "/api/v1/regions/eu-west?dryRun=1")).status == 200
    assert (await api.call("GET", "/api/v1/regions/eu-west")).status == 200


async def test_the_same_key_acts_once_and_another_request_under_it_is_refused(
    api: Operator,
) -> None:
    key = {"Idempotency-Key": "k-1"}
    path = "/api/v1/regions/eu-west"
    first = await api.call("PUT", path, document(), headers=key)
    again = await api.call("PUT", path, document(), headers=key)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    other = document(spec={"location": {"latitude": 0, "longitude": 0}})
    reused = await api.call("PUT", path, other, headers=key)
    assert (reused.status, reused.json["reason"]) == (400, "idempotency-key-reused")
    deletion = {"Idempotency-Key": "k-2"}
    assert (await api.call("DELETE", path, headers=deletion)).status == 200
    assert (await api.call("DELETE", path, headers=deletion)).status == 200
    assert (await api.call("DELETE", path)).status == 404


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
async def test_a_malformed_idempotency_key_is_refused(api: Operator, key: str) -> None:
    answer = await api.call(
        "PUT", "/api/v1/regions/eu-west", document(), headers={"Idempotency-Key": key}
    )
    assert answer.status == 400
    assert (await api.call("GET", "/api/v1/regions")).json["items"] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (document(apiVersion="v0"), "apiVersion must be"),
        (document(kind="Cluster"), "kind must be 'Region'"),
        (document(metadata={"name": "us-east"}), "metadata.name is 'us-east'"),
        (document(spec={"locaton": LOCATION}), "unknown key 'locaton'"),
        (document(spec={}), "missing required field `location`"),
        (document(spec={"location": {"latitude": 91, "longitude": 0}}), "no place"),
        (document(spec={"location": {"latitude": "x", "longitude": 0}}), "spec.location.latitude"),
        (document(spec=[]), "spec"),
        (document(metdata={}), "unknown key 'metdata'"),
        ({}, "missing required field"),
        ([], "must be a JSON object"),
    ],
)
async def test_bad_documents_are_refused_with_the_place(
    api: Operator, body: object, told: str
) -> None:
    answer = await api.call("PUT", "/api/v1/regions/eu-west", body)
    assert answer.status == 400
    assert told in answer.json["detail"]
    assert " line " not in answer.json["detail"]


async def test_an_unknown_key_comes_with_a_suggestion(api: Operator) -> None:
    answer = await api.call("PUT", "/api/v1/regions/eu-west", document(spec={"locaton": LOCATION}))
    assert "'location'" in answer.json["hint"]


async def test_an_unknown_name_comes_with_near_misses(api: Operator) -> None:
    await api.put("Region", "eu-west", REGION)
    answer = await api.call("GET", "/api/v1/regions/eu-wset")
    assert answer.status == 404
    assert "'eu-west'" in answer.json["hint"]


async def test_routers_keys_and_events_are_not_written(api: Operator) -> None:
    for plural, removed in (("routers", 404), ("keys", 404), ("events", 405)):
        assert (await api.call("GET", f"/api/v1/{plural}")).status == 200
        assert (await api.call("PUT", f"/api/v1/{plural}/x", document())).status == 405
        assert (await api.call("DELETE", f"/api/v1/{plural}/x")).status == removed


async def test_what_was_done_is_told_by_the_events(api: Operator) -> None:
    await api.put("Region", "eu-west", REGION)
    events = (await api.call("GET", "/api/v1/events")).json["items"]
    told = events[-1]["status"]
    assert (told["actor"], told["kind"], told["name"]) == ("admin/local", "Region", "eu-west")


async def test_an_unknown_query_parameter_is_refused(api: Operator) -> None:
    answer = await api.call("PUT", "/api/v1/regions/eu-west?dryrun=true", document())
    assert answer.status == 400
    assert "'dryRun'" in answer.json["hint"]
    assert (await api.call("GET", "/api/v1/regions?watch=maybe")).status == 400
