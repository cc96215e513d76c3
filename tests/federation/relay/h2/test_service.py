from federation.relay.h2.service import Counts, Failure, Kind


def test_which_failures_executed_nothing() -> None:
    found = {kind for kind in Kind if Failure(kind=kind, why="").nothing_done}
    assert found == {Kind.UNREACHABLE, Kind.UNPROCESSED, Kind.REFUSED}


def test_reasons_are_counted_up_to_a_bound() -> None:
    counts = Counts()
    for number in range(300):
        counts.broke(client=number % 2 == 0, why=f"why {number}")
    counts.broke(client=True, why="why 0")
    assert (counts.broken_clients, counts.broken_upstreams) == (151, 150)
    assert len(counts.why) == 100
    assert counts.why["why 0"] == 2
