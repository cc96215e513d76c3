"""What the loop shows."""

from edge_agent.board import Board
from edge_agent.gateway.recent import Figures
from federation.contract.capacity import Capacity
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


def test_a_capacity_grows_older_while_it_is_shown() -> None:
    board = Board(EngineKind.TRITON)
    board.show_capacity(Capacity(age_s=2.0, reason="slow"), 100.0)
    assert board.capacity_at(103.0) == Capacity(age_s=5.0, reason="slow")


def test_figures_are_those_of_the_gateway() -> None:
    board = Board(EngineKind.TRITON)
    board.show(5, (ObservedVersion(model="m", version=1, digest="d", state=VersionState.WARMED),))
    (seen,) = board.observed(lambda _m, _v: 0, lambda _m, v: Figures(4.0 * v, 20.0)).versions
    assert (seen.rate, seen.latency_ms) == (4.0, 20.0)
