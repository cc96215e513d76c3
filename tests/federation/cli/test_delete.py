import io

import pytest

from federation.cli.root import run
from federation.cli.session import Session
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def region(plane: FakeControlPlane) -> None:
    plane.put("regions", "eu-west", {})


def test_a_script_is_not_asked(fed: Fed, plane: FakeControlPlane) -> None:
    assert fed("delete", "region/eu-west").out == "region/eu-west deleted\n"
    assert plane.objects["regions"] == {}
    assert fed("delete", "region", "eu-west").code == 3
    assert fed("delete", "region", "eu-west", "--ignore-not-found").code == 0


@pytest.mark.parametrize(("typed", "code"), [("eu-west\n", 0), ("yes\n", 1), ("\n", 1)])
def test_a_person_types_the_name(
    fed: Fed, plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert run(["delete", "region", "eu-west"], Session()) == code
    assert ("eu-west" in plane.objects["regions"]) == bool(code)


def test_a_person_who_said_yes_is_not_asked(
    fed: Fed, plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert run(["delete", "region", "eu-west", "-y"], Session()) == 0


def test_a_dry_run_deletes_nothing(fed: Fed, plane: FakeControlPlane) -> None:
    shown = fed("delete", "region", "eu-west", "--dry-run=server").out
    assert shown == "region/eu-west deleted (server dry run)\n"
    assert "eu-west" in plane.objects["regions"]


def test_what_the_system_makes_cannot_be_deleted(fed: Fed) -> None:
    assert "cannot be deleted" in fed("delete", "event", "7").err
    assert fed("delete", "region").code == 2
