"""Joining: one token, one key, one generation; and the machine of all memberships."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from federation.contract.errors import AlreadyExists, Conflict, FederationError, Unauthenticated
from federation.contract.resources import ClusterSpec
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Trust
from federation.policy.events import CloseAgent
from federation.policy.membership.events import CloseRouter, PublishTrust
from federation.policy.membership.trust import revocations
from tests.depth import examples
from tests.federation.policy.world import World


def registered(*, require_accept: bool = False) -> World:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"), require_accept=require_accept)
    return world


def refused(world: World, **join: str) -> str:
    with pytest.raises(FederationError) as refusal:
        world.join("c", **join)  # type: ignore[arg-type]  # only strings are given
    return refusal.value.reason


def test_the_first_key_wins_and_may_repeat() -> None:
    world = registered()
    first = world.join("c", key="one")
    assert (first.generation > 0, first.accepted) == (True, True)
    assert world.join("c", key="one") == first
    assert refused(world, key="two") == "join-token-used"
    ticket = world.state.clusters["c"].ticket
    assert ticket is not None
    assert ticket.used_by == "one"
    assert world.told().count("ClusterJoined") == 1


def test_a_wrong_token_is_refused_like_an_unknown_name() -> None:
    world = registered()
    assert refused(world, token="wrong") == "join-token-wrong"
    with pytest.raises(Unauthenticated) as refusal:
        world.join("x")
    assert refusal.value.reason == "join-token-wrong"
    with pytest.raises(Unauthenticated) as refusal:
        world.join("c", role=PeerRole.ROUTER)
    assert refusal.value.reason == "join-token-wrong"


def test_a_token_expires_for_newcomers_and_for_repetitions() -> None:
    world = registered()
    world.now += timedelta(hours=1)
    assert refused(world) == "join-token-expired"
    world = registered()
    world.join("c", key="one")
    world.now += timedelta(hours=1)
    assert refused(world, key="one") == "join-token-expired"


def test_who_waits_may_ask_again_until_accepted_and_an_hour_longer() -> None:
    world = registered(require_accept=True)
    waiting = world.join("c", key="one")
    assert not waiting.accepted
    world.now += timedelta(hours=5)
    assert world.join("c", key="one") == waiting
    assert refused(world, key="two") == "join-token-used"
    world.accept("c")
    world.accept("c")  # twice is once
    assert world.told().count("ClusterAccepted") == 1
    world.now += timedelta(minutes=59)
    joined = world.join("c", key="one")
    assert (joined.generation, joined.accepted) == (waiting.generation, True)
    world.now += timedelta(minutes=1)
    assert refused(world, key="one") == "join-token-expired"


def test_nobody_is_accepted_who_has_not_joined_or_is_revoked() -> None:
    world = registered(require_accept=True)
    with pytest.raises(Conflict, match="has not joined yet"):
        world.accept("c")
    world.join("c")
    world.revoke("c")
    with pytest.raises(Conflict, match="was revoked"):
        world.accept("c")


def test_joining_anew_revokes_the_older_certificates_and_ends_their_streams() -> None:
    world = World()
    world.cluster("c")
    old, epoch = world.state.clusters["c"].membership.generation, world.state.clusters["c"].epoch
    world.register("c", ClusterSpec(region=""), token="second", rejoin=True)
    assert world.state.clusters["c"].membership.generation == old
    world.commands.clear()
    new = world.join("c", token="second", key="other").generation
    assert new > old
    assert PublishTrust() in world.commands
    assert [c.epoch for c in world.commands if isinstance(c, CloseAgent)] == [epoch]
    (revoked,) = revocations(world.state)
    assert old < revoked.below <= new


def test_routers_register_once_and_rejoin() -> None:
    world = World()
    world.router()
    with pytest.raises(AlreadyExists, match="registered already") as refusal:
        world.register_router("r")
    assert "fed router register r --rejoin" in refusal.value.hint
    old = world.state.registered_routers["r"].membership.generation
    world.register_router("r", token="second", rejoin=True)
    world.join("r", token="second", key="other", role=PeerRole.ROUTER)
    closed = [c for c in world.commands if isinstance(c, CloseRouter)]
    assert [(c.name, c.generation) for c in closed] == [("r", old)]


def test_a_revoked_cluster_comes_back_by_another_join_only() -> None:
    world = World()
    world.cluster("c")
    world.revoke("c")
    assert refused(world) == "join-token-wrong"  # the ticket is gone
    world.register("c", ClusterSpec(region=""), token="second", rejoin=True)
    world.join("c", token="second")
    world.connect("c")
    assert [e.cluster for e in world.snapshot().endpoints] == ["c"]


# ------------------------------------------------------------ the machine

NAMES = (("a", PeerRole.CLUSTER), ("b", PeerRole.CLUSTER), ("r", PeerRole.ROUTER))
members = st.sampled_from(NAMES)
keys = st.sampled_from(["k1", "k2", "k3"])


class Memberships(RuleBasedStateMachine):
    """Registers, joins, accepts, revokes and removes at random, while time passes."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.world.region("eu")
        self.tokens = 0
        self.newest: dict[tuple[str, PeerRole], str] = {}  # the token that is good now
        self.key_of: dict[str, str] = {}  # whom each used token let in
        self.given: list[tuple[str, PeerRole, int]] = []  # certificates that may be out there
        self.ended: set[tuple[str, int]] = set()  # URIs and generations that were once revoked
        self.last = 0

    @rule(member=members, accept=st.booleans())
    def register(self, member: tuple[str, PeerRole], *, accept: bool) -> None:
        name, role = member
        self.tokens += 1
        token = f"t{self.tokens}"
        known = self.world.state.table(role.value.capitalize())
        if role is PeerRole.CLUSTER:
            spec = ClusterSpec(region="eu")
            rejoin = name in known
            self.world.register(name, spec, token=token, rejoin=rejoin, require_accept=accept)
        else:
            self.world.register_router(name, token=token, rejoin=name in known)
        self.newest[member] = token

    @rule(member=members, key=keys, back=st.integers(0, 2))
    def join(self, member: tuple[str, PeerRole], key: str, back: int) -> None:
        name, role = member
        token = f"t{self.tokens - back}"
        try:
            joined = self.world.join(name, token=token, key=key, role=role)
        except (Unauthenticated, AlreadyExists):
            return
        assert token == self.newest[member]
        assert self.key_of.setdefault(token, key) == key, "a second key got in"
        if (name, role, joined.generation) not in self.given:
            assert joined.generation > self.last, "generations must grow over all members"
            self.last = joined.generation
            self.given.append((name, role, joined.generation))

    @rule(member=members, what=st.sampled_from(["accept", "revoke", "remove"]))
    def operate(self, member: tuple[str, PeerRole], what: str) -> None:
        name, role = member
        kind = role.value.capitalize()
        if name not in self.world.state.table(kind):
            return
        if what == "accept":
            try:
                self.world.accept(name, role)
            except Conflict:
                return
        elif what == "revoke":
            self.world.revoke(name, role)
        else:
            self.world.remove(kind, name)

    @rule(hours=st.sampled_from([0.5, 2, 25]))
    def wait(self, hours: float) -> None:
        self.world.advance(hours * 3600)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    def admits(self, name: str, role: PeerRole, generation: int) -> bool:
        """Whether a certificate of this generation opens a stream now."""
        copy = World()
        copy.state, copy.now = self.world.state.copy(), self.world.now
        try:
            if role is PeerRole.CLUSTER:
                copy.connect(name, generation=generation)
            else:
                copy.connect_router(name, generation=generation)
        except FederationError:
            return False
        return True

    @invariant()
    def what_was_revoked_is_never_valid_again(self) -> None:
        if not hasattr(self, "world"):
            return
        state = self.world.state
        domain = state.trust_domain
        trust = Trust(version=1, trust_domain=domain, roots=(), revoked=revocations(state))
        for name, role, generation in self.given:
            uri = PeerId(domain, role, name).uri
            if trust.refuses(uri, generation):
                self.ended.add((uri, generation))
            if (uri, generation) in self.ended:
                assert not self.admits(name, role, generation)

    @invariant()
    def at_most_the_newest_certificate_of_a_name_is_valid(self) -> None:
        if not hasattr(self, "world"):
            return
        for member in NAMES:
            generations = [g for n, r, g in self.given if (n, r) == member]
            assert not any(self.admits(*member, generation) for generation in generations[:-1])

    @invariant()
    def nobody_is_routed_to_who_is_no_member(self) -> None:
        if hasattr(self, "world"):
            for endpoint in self.world.snapshot().endpoints:
                assert self.world.state.clusters[endpoint.cluster].membership.valid


Memberships.TestCase.settings = settings(
    max_examples=examples(25), stateful_step_count=40, deadline=None
)
TestMemberships = Memberships.TestCase
