"""Work comes in slices, with rests between them while inference goes first."""

import pytest

from edge_agent.sync.breath import REST_S, SLICE_BYTES, Breath


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES])
def test_slices_are_all_of_it_in_order(size: int) -> None:
    data = memoryview(bytes(n % 251 for n in range(size)))
    parts = list(Breath().slices(data))
    assert b"".join(parts) == data
    assert all(0 < len(part) <= SLICE_BYTES for part in parts)


def test_rests_are_taken_between_slices_only_while_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[float] = []
    monkeypatch.setattr("edge_agent.sync.breath.time.sleep", rests.append)
    breathing = Breath()
    data = memoryview(bytes(3 * SLICE_BYTES))
    list(breathing.slices(data))
    breathing.take()
    assert rests == []
    breathing.needed = True
    list(breathing.slices(data))
    assert rests == [REST_S] * 2
    assert repr(breathing) == "Breath(needed)"
