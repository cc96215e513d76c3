from federation.contract.resources import TenantSpec
from federation.policy import events
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.access.records import KeyKind
from federation.policy.decide import HANDLERS


def test_each_event_has_a_decider_and_names_its_actor() -> None:
    key = KeyCreated(actor="admin/local", id="k", kind=KeyKind.INFERENCE, digest="00", tenant="t")
    tenant = TenantApplied(actor="admin/local", name="t", spec=TenantSpec())
    for event in (key, tenant):
        assert type(event) in HANDLERS
        assert isinstance(event, events.Event)
        assert event.actor == "admin/local"
