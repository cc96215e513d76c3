import pytest

from federation.cli.exits import MEANING, ExitCode, WaitNotMet, exit_code
from federation.contract.errors import HTTP_STATUS, FederationError, InvalidTransition, NotFound


def test_every_code_has_a_meaning() -> None:
    assert set(MEANING) == set(ExitCode)
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]


@pytest.mark.parametrize("cls", [cls for cls in HTTP_STATUS if cls is not InvalidTransition])
def test_every_error_ends_in_a_failure_code(cls: type[FederationError]) -> None:
    assert exit_code(cls("no.")) not in (ExitCode.OK, ExitCode.USAGE, ExitCode.DIFFERS)


def test_a_subclass_ends_as_its_nearest_class() -> None:
    class Lost(NotFound):
        pass

    assert exit_code(Lost("gone.")) is ExitCode.NOT_FOUND
    assert exit_code(InvalidTransition("a", "B", "C")) is ExitCode.CONFLICT
    assert exit_code(WaitNotMet("late.")) is ExitCode.WAIT_NOT_MET
