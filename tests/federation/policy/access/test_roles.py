from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.access import Grant, Role
from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.rollout import RolloutSpec
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.types import AssignedVersion
from federation.policy.access.roles import Action, Caller, Verb, refusal
from federation.policy.state import State
from tests.federation.policy.rollouts.test_next_words import RECORD
from tests.federation.policy.world import World

KINDS = (
    "Region",
    "Cluster",
    "Model",
    "Deployment",
    "Rollout",
    "Router",
    "Tenant",
    "Key",
    "Event",
    "Prefetch",
    "Chunk",
    "Pack",
    "ModelVersion",
    "Audit",
    "Root",
)


def who(*grants: Grant) -> Caller:
    return Caller(name="user/alice", grants=grants)


def operator(*regions: str) -> Grant:
    return Grant(role=Role.OPERATOR, regions=regions)


def owner(*models: str) -> Grant:
    return Grant(role=Role.MODEL_OWNER, models=models)


@pytest.fixture
def state() -> State:
    """Clusters eu and us in regions of their names; ocr and llama-7b pushed; ocr deployed."""
    world = World()
    for region in ("eu", "us"):
        world.region(region)
        world.register(region, ClusterSpec(region=region))
    world.push("ocr")
    world.push("llama-7b", "b")
    world.deploy(DeploymentSpec(model="ocr"), name="ocr")
    world.prefetch(PrefetchSpec(model="ocr", version=1), name="ocr")
    return world.state


verbs = st.sampled_from(Verb)
kinds = st.sampled_from(KINDS)
names = st.sampled_from(["", "eu", "us", "ocr", "llama-7b", "ap"])
some = st.lists(names, max_size=2).map(tuple)
actions = st.builds(
    lambda v, k, n, r, m: Action(verb=v, kind=k, name=n, regions=r, models=m),
    *(verbs, kinds, names, some, some),
)


@given(actions)
def test_an_admin_may_do_all_and_nobody_may_do_nothing(action: Action) -> None:
    assert refusal(who(Grant(role=Role.ADMIN)), action, State()) == ""
    assert refusal(who(), action, State())


@given(actions)
def test_a_viewer_reads_everything_but_the_audit_log(action: Action) -> None:
    viewer = who(Grant(role=Role.VIEWER))
    reads = action.verb is Verb.READ and action.kind != "Audit"
    assert (refusal(viewer, action, State()) == "") is reads
    if reads:
        for role in Role:
            assert refusal(who(Grant(role=role)), action, State()) == ""


@given(actions, st.permutations([operator("eu"), owner("llama-*"), Grant(role=Role.VIEWER)]))
def test_more_grants_never_allow_less(action: Action, grants: list[Grant]) -> None:
    one, all_ = who(grants[0]), who(*grants)
    if refusal(one, action, State()) == "":
        assert refusal(all_, action, State()) == ""


@given(actions)
def test_a_limited_role_may_nothing_that_the_unlimited_may_not(action: Action) -> None:
    for limited, unlimited in ((operator("eu"), operator()), (owner("llama-*"), owner())):
        if refusal(who(unlimited), action, State()):
            assert refusal(who(limited), action, State())


@pytest.mark.parametrize("verb", [Verb.SCHEDULE, Verb.ACCEPT, Verb.REVOKE, Verb.DELETE, Verb.WRITE])
def test_operators_run_the_clusters_of_their_regions(state: State, verb: Verb) -> None:
    mine = Action(verb=verb, kind="Cluster", name="eu", regions=("eu",))
    foreign = Action(verb=verb, kind="Cluster", name="us", regions=("us",))
    assert refusal(who(operator("eu")), mine, state) == ""
    told = refusal(who(operator("eu")), foreign, state)
    assert told == (
        f"user/alice may not {verb.value} cluster 'us': region 'us' is not among its regions (eu)."
    )
    assert refusal(who(operator("eu"), operator("us")), foreign, state) == ""
    assert refusal(who(operator()), foreign, state) == ""
    assert "needs the role operator or admin" in refusal(who(owner()), mine, state)


def test_a_cluster_moves_only_between_regions_that_are_both_mine(state: State) -> None:
    into = Action(verb=Verb.WRITE, kind="Cluster", name="us", regions=("eu",))
    out = Action(verb=Verb.WRITE, kind="Cluster", name="eu", regions=("us",))
    for action in (into, out):
        assert refusal(who(operator("eu")), action, state)
        assert refusal(who(operator("us")), action, state)
        assert refusal(who(operator("eu", "us")), action, state) == ""
        assert refusal(who(operator("eu"), operator("us")), action, state) == ""


def test_new_clusters_and_regions_are_within_the_grant_too(state: State) -> None:
    def register(region: str) -> Action:
        return Action(verb=Verb.REGISTER, kind="Cluster", name="new", regions=(region,))

    assert refusal(who(operator("eu")), register("eu"), state) == ""
    assert refusal(who(operator("eu")), register("us"), state)
    assert refusal(who(operator("eu")), register(""), state)
    for verb in (Verb.WRITE, Verb.DELETE):
        for name, mine in (("eu", True), ("us", False), ("ap", False)):
            region = Action(verb=verb, kind="Region", name=name)
            assert (refusal(who(operator("eu")), region, state) == "") is mine


@pytest.mark.parametrize("verb", [Verb.PUSH, Verb.WRITE, Verb.DELETE])
def test_owners_change_their_models(state: State, verb: Verb) -> None:
    mine = Action(verb=verb, kind="Model", name="llama-7b")
    foreign = Action(verb=verb, kind="Model", name="ocr")
    assert refusal(who(owner("llama-*")), mine, state) == ""
    told = refusal(who(owner("llama-*", "tts")), foreign, state)
    assert "model 'ocr' is not among its models (llama-*, tts)" in told
    assert refusal(who(operator()), mine, state)


@pytest.mark.parametrize("kind", ["Deployment", "Prefetch"])
def test_a_wish_changes_hands_only_between_models_that_are_both_mine(
    state: State, kind: str
) -> None:
    def write(model: str) -> Action:
        return Action(verb=Verb.WRITE, kind=kind, name="ocr", models=(model,))

    assert refusal(who(owner("llama-*")), write("llama-7b"), state)  # it is of ocr now
    assert refusal(who(owner("ocr")), write("llama-7b"), state)
    assert refusal(who(owner("ocr")), write("ocr"), state) == ""
    assert refusal(who(owner("ocr", "llama-*")), write("llama-7b"), state) == ""
    gone = Action(verb=Verb.DELETE, kind=kind, name="ocr")
    assert refusal(who(owner("llama-*")), gone, state)
    assert refusal(who(owner("ocr")), gone, state) == ""


def test_rollouts_belong_to_the_owners_of_their_model(state: State) -> None:
    state.rollouts["ocr-2"] = replace(RECORD, spec=RolloutSpec(model="ocr", version=2))
    for verb in (Verb.WRITE, Verb.STOP, Verb.DELETE):
        for name in ("ocr-2", "ocr"):  # a rollout's name, or its model's
            action = Action(verb=verb, kind="Rollout", name=name)
            assert refusal(who(owner("ocr")), action, state) == ""
            assert "model 'ocr' is not among" in refusal(who(owner("llama*")), action, state)
    start = Action(verb=Verb.WRITE, kind="Rollout", name="", models=("ocr",))
    assert refusal(who(owner("ocr")), start, state) == ""
    assert refusal(who(owner("llama*")), start, state)
    # A name that is taken does not open another model's rollout.
    taken = Action(verb=Verb.WRITE, kind="Rollout", name="ocr-2", models=("llama-7b",))
    assert refusal(who(owner("llama*")), taken, state)


def test_operators_stop_rollouts_in_their_regions_and_no_more(state: State) -> None:
    both = replace(RECORD.waves[1], regions=(), clusters=("us",))
    state.rollouts["ocr-2"] = replace(RECORD, waves=(RECORD.waves[0], both))
    stop = Action(verb=Verb.STOP, kind="Rollout", name="ocr-2")
    assert refusal(who(operator()), stop, state) == ""
    assert refusal(who(operator("eu", "us")), stop, state) == ""
    assert "region 'us' is not among" in refusal(who(operator("eu")), stop, state)
    assert refusal(who(operator()), replace(stop, verb=Verb.WRITE), state)


def test_patterns_are_case_sensitive(state: State) -> None:
    push = Action(verb=Verb.PUSH, kind="Model", name="LLAMA-7b")
    assert refusal(who(owner("llama-*")), push, state)


# ------------------------------------------------------------ peers


def peer(role: PeerRole, name: str) -> Caller:
    return Caller(name=f"{role.value}/{name}", peer=PeerId("fed.test", role, name))


def read(kind: str, name: str) -> Action:
    return Action(verb=Verb.READ, kind=kind, name=name)


def test_an_agent_fetches_what_its_cluster_is_assigned_and_nothing_else() -> None:
    world = World()
    world.region("eu")
    world.register("a", ClusterSpec(region="eu"))
    world.push("ocr", "a")
    world.push("tts", "b")
    state = world.state
    assigned = AssignedVersion(model="ocr", version=1, digest="ocr:a")
    gone = AssignedVersion(model="gone", version=1, digest="gone:c")
    held = state.clusters["a"]
    assignment = replace(held.assignment, versions=(gone, assigned))
    state.clusters["a"] = replace(held, assignment=assignment)
    agent = peer(PeerRole.CLUSTER, "a")
    assert refusal(agent, read("ModelVersion", "ocr/1"), state) == ""
    for kind, name in (
        ("ModelVersion", "ocr/2"),
        ("ModelVersion", "ocr/champion"),
        ("ModelVersion", "tts/1"),
        ("Pack", "b" * 64),
        ("Chunk", "c" * 64),
        ("Model", "ocr"),
        ("Cluster", "a"),
        ("Audit", ""),
    ):
        assert refusal(agent, read(kind, name), state), (kind, name)
    assert refusal(peer(PeerRole.CLUSTER, "gone"), read("ModelVersion", "ocr/1"), state)
    assert refusal(peer(PeerRole.ROUTER, "a"), read("ModelVersion", "ocr/1"), state)


@given(actions)
def test_peers_change_nothing(action: Action) -> None:
    changing = action if action.verb is not Verb.READ else replace(action, verb=Verb.WRITE)
    for role in PeerRole:
        assert refusal(peer(role, "eu"), changing, State())


@given(actions, st.sampled_from(Role))
def test_grants_are_worth_nothing_to_a_peer(action: Action, role: Role) -> None:
    caller = replace(peer(PeerRole.ROUTER, "r"), grants=(Grant(role=role),))
    assert refusal(caller, action, State())
