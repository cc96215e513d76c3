from federation.app import ControlPlane
from tests.fakes.control_plane import Operator
from tests.federation.api.test_rollouts import SPEC, deployed

PLAN = "/api/v1/plan/rollout"


async def test_a_plan_tells_bytes_and_waves_and_changes_nothing(
    plane: ControlPlane, api: Operator
) -> None:
    await deployed(plane, api, cap=1.0)
    before = plane.loop.state.copy()
    answer = await api.call("POST", PLAN, {"spec": SPEC})
    assert answer.status == 200, answer.body
    plan = answer.json
    assert (plan["rollout"], plan["stable"], plan["canary"]) == ("m-1", 1, 2)
    assert plan["approvals"] == [1]
    (row,) = plan["clusters"]
    assert (row["wave"], row["cluster"], row["fit"], row["exact"]) == (1, "a", "beside", True)
    assert row["bytes"] > 2000
    assert row["eta_s"] == round(row["bytes"] / 1e6, 1)
    assert plan["regions"][0]["bytes"] == row["bytes"]
    assert plane.loop.state == before


async def test_where_both_do_not_fit_it_says_what_would_help(
    plane: ControlPlane, api: Operator
) -> None:
    await deployed(plane, api)
    wide = {"model": "m", "version": 1, "resources": {"gpus": 2}}
    assert (await api.put("Deployment", "m", wide)).status == 200
    plan = (await api.call("POST", PLAN, {"spec": SPEC})).json
    assert plan["clusters"][0]["fit"] == "cannot"
    assert any("--in-place" in note for note in plan["notes"])
    strategy = {**SPEC["strategy"], "in_place": True}  # type: ignore[dict-item]
    plan = (await api.call("POST", PLAN, {"spec": {**SPEC, "strategy": strategy}})).json
    assert (plan["clusters"][0]["fit"], plan["clusters"][0]["missing"]) == ("in place", 1)


async def test_other_refusals_stay_refusals(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    there = await api.call("POST", PLAN, {"spec": {**SPEC, "version": 1}})
    assert (there.status, there.json["reason"]) == (409, "already-there")
