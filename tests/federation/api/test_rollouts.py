from dataclasses import replace

from federation.app import ControlPlane
from tests.fakes.control_plane import Answer, Operator
from tests.federation.api.test_plans import cluster

ROLLOUTS = "/api/v1/rollouts"
SPEC = {"model": "m", "version": 2, "strategy": {"waves": [{"regions": ["eu"], "approval": True}]}}


async def deployed(plane: ControlPlane, api: Operator, **sync: float) -> None:
    """Version 1 of a model serves at a cluster; there is a version 2."""
    await cluster(plane, api, "a", **sync)
    assert (await api.push("m", b"one" * 1000)).status == 201
    spec = {"model": "m", "version": 1, "resources": {"gpus": 1}}
    assert (await api.put("Deployment", "m", spec)).status == 201
    assert (await api.push("m", b"two" * 1000)).status == 201


async def start(api: Operator, query: str = "", **more: object) -> Answer:
    return await api.call("POST", f"{ROLLOUTS}{query}", {"spec": SPEC, **more})


async def test_a_rollout_is_started_steered_and_told(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    dry = await start(api, "?dryRun=true")
    assert (dry.status, plane.loop.state.rollouts) == (201, {})
    made = await start(api, why="faster")
    assert made.status == 201, made.body
    name = made.json["metadata"]["name"]
    assert dry.json["metadata"]["name"] == name
    assert made.json["status"]["started_by"] == "admin/local"
    assert made.json["status"]["why"] == "faster"
    assert (await start(api)).status == 200  # it is the same one
    paused = await api.call("POST", f"{ROLLOUTS}/{name}/pause", {"why": "lunch"})
    assert (paused.json["status"]["phase"], paused.json["status"]["pause"]) == ("paused", "manual")
    resumed = await api.call("POST", f"{ROLLOUTS}/m/resume", {})  # by the name of its model
    assert resumed.status == 200
    (told,) = (await api.call("GET", ROLLOUTS)).json["items"]
    assert told["metadata"]["name"] == name
    approved = await api.call("POST", f"{ROLLOUTS}/{name}/approve", {})
    assert approved.json["status"]["waves"][0]["approved_by"] == "admin/local"
    aborted = await api.call("POST", f"{ROLLOUTS}/{name}/abort", {"why": "no"})
    assert aborted.json["status"]["phase"] in ("rolling-back", "rolled-back")
    events = (await api.call("GET", "/api/v1/events")).json["items"]
    assert {e["status"]["name"] for e in events if e["status"]["kind"] == "Rollout"} == {name}


async def test_refusals_say_what_is_wrong(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    unknown = await api.call("POST", f"{ROLLOUTS}/nothing/pause", {})
    assert unknown.status == 404
    assert (await api.call("POST", f"{ROLLOUTS}/m/pause", {"full": True})).status == 400
    long = await start(api, why="x" * 1001)
    assert "1000 at most" in long.json["detail"]
    assert (await start(api, strategy={})).status == 400
    steps = {**SPEC, "strategy": {"steps": [5, 3]}}
    wrong = await api.call("POST", ROLLOUTS, {"spec": steps})
    assert (wrong.status, "steps must rise" in wrong.json["detail"]) == (400, True)
    region = {"location": {"latitude": 1, "longitude": 1}, "time_zone": "Nowhere/Atall"}
    assert (await api.put("Region", "eu", region)).status == 400


async def test_one_call_acts_once(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    key = {"Idempotency-Key": "k"}
    body = {"spec": SPEC, "name": "r"}
    first = await api.call("POST", ROLLOUTS, body, headers=key)
    again = await api.call("POST", ROLLOUTS, body, headers=key)
    assert (first.status, again.status) == (201, 201)
    taken = await api.call("POST", ROLLOUTS, body)
    assert taken.status == 409


async def test_a_document_is_applied_and_forgotten(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    assert (await api.put("Rollout", "r", SPEC)).status == 201
    assert (await api.put("Rollout", "r", SPEC)).status == 200
    changed = {**SPEC, "strategy": {"steps": [100]}}
    assert (await api.put("Rollout", "r", changed)).status == 409
    assert (await api.call("DELETE", f"{ROLLOUTS}/r")).status == 409
    record = plane.loop.state.rollouts["r"]
    plane.loop.state.rollouts["r"] = replace(record, phase=type(record.phase).FAILED)
    assert (await api.call("DELETE", f"{ROLLOUTS}/r")).status == 200


async def test_undo_of_what_never_changed_is_refused(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    refused = await api.call("POST", "/api/v1/models/m/undo", {})
    assert refused.json["reason"] == "nothing-to-undo"
    undone = await api.call("POST", "/api/v1/models/m/undo", {"version": 2, "why": "w"})
    assert undone.status == 201, undone.body
    assert undone.json["spec"]["version"] == 2
