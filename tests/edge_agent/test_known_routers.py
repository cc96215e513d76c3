"""The list of routers, across restarts."""

from pathlib import Path

import pytest

from edge_agent.known_routers import ROUTERS_FILE, KnownRouters
from federation.contract.trust import RouterAddress

R1 = RouterAddress(name="r1", reverse_address="r1.example:7402")
R2 = RouterAddress(name="r2", reverse_address="[2001:db8::2]:7402")


def test_the_newest_list_outlives_a_restart_and_changes_are_told(tmp_path: Path) -> None:
    known, told = KnownRouters(tmp_path), []
    known.on_change.append(lambda: told.append(known.addresses))
    assert known.addresses == ()
    known.keep((R1, R2))
    known.keep((R1, R2))
    known.keep((R2,))
    assert told == [(R1, R2), (R2,)]
    assert KnownRouters(tmp_path).addresses == (R2,)
    known.keep(())
    assert KnownRouters(tmp_path).addresses == ()
    assert repr(known) == "KnownRouters(none)"


def test_what_cannot_be_read_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ROUTERS_FILE).write_text("{}")
    assert KnownRouters(tmp_path).addresses == ()
    assert "cannot be used" in caplog.text


def test_a_full_disk_costs_only_the_next_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = KnownRouters(tmp_path / "state")
    (tmp_path / "state").write_text("in the way")
    known.keep((R1,))
    assert known.addresses == (R1,)
    assert "could not be kept" in caplog.text
