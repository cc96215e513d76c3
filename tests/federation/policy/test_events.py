from dataclasses import fields
from typing import get_args

from federation.policy import events
from federation.policy.membership.events import RouterRegistered


def test_events_are_past_tense_and_commands_are_not() -> None:
    past = ("ed", "Moved", "Undone")
    assert all(event.__name__.endswith(past) for event in get_args(events.Event))
    assert not any(command.__name__.endswith("ed") for command in get_args(events.Command))


def test_what_people_do_has_an_author() -> None:
    by_machines = ("Agent", "Router", "PeerJoined", "TimePassed", "Started")
    for event in get_args(events.Event):
        names = {field.name for field in fields(event)}
        by_people = not event.__name__.startswith(by_machines) or event is RouterRegistered
        assert ("actor" in names) is by_people
