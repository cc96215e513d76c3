from dataclasses import fields, is_dataclass

from federation.policy.membership import events


def test_all_are_frozen_values_without_secrets() -> None:
    found = [
        e for e in vars(events).values() if is_dataclass(e) and e.__module__ == events.__name__
    ]
    assert len(found) > 5
    for event in found:
        assert event.__dataclass_params__.frozen  # type: ignore[union-attr]  # a dataclass
        assert not {field.name for field in fields(event)} & {"token", "secret", "key"}
