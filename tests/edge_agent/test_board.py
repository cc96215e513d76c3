"""What the loop shows."""

from edge_agent.board import Board
from federation.contract.types import (
    EngineKind,
    ModelProtocol,
    ObservedVersion,
    VersionState,
)


def test_a_new_board_claims_nothing() -> None:
    board = Board(EngineKind.TRITON)
    observed = board.observed(lambda _m, _v: 1)
    assert (observed.engine.ready, observed.versions, observed.observed_generation) == (
        False,
        (),
        0,
    )


def test_versions_are_shown_to_the_gateway_and_counted_for_reports() -> None:
    board = Board(EngineKind.TRITON)
    version = ObservedVersion(
        model="m",
        version=1,
        digest="d",
        state=VersionState.WARMED,
        protocol=ModelProtocol.TEXT,
    )
    board.show(5, (version,))
    served = board.served["m", 1]
    assert (served.state, served.protocol) == (VersionState.WARMED, ModelProtocol.TEXT)
    (counted,) = board.observed(lambda model, number: len(model) + number).versions
    assert counted.in_flight == 2
    assert repr(board) == "Board(generation=5, m@1 warmed)"
