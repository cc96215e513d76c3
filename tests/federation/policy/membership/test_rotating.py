from federation.policy.membership.events import RootPrepared
from tests.federation.policy.world import ACTOR, World


def test_who_asked_for_a_root_is_told() -> None:
    world = World()
    assert world.applied(RootPrepared(actor=ACTOR, name="root-0002")).created
    (told,) = world.state.audit.values()
    assert (told.actor, told.kind, told.name) == (ACTOR, "Authority", "root-0002")
