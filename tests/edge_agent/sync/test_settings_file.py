from pathlib import Path

import pytest

from edge_agent.sync.settings_file import SettingsFile
from federation.contract.sync import Day, SyncSpec, SyncWindow

SPEC = SyncSpec(
    max_mbytes_per_second=2.5,
    windows=(SyncWindow(start="22:00", end="06:00", days=(Day.MON, Day.SUN)),),
    time_zone="Europe/Berlin",
)


def test_what_was_kept_is_read(tmp_path: Path) -> None:
    assert SettingsFile(tmp_path).read() is None
    SettingsFile(tmp_path).keep(SPEC)
    assert SettingsFile(tmp_path).read() == SPEC


def test_a_damaged_file_is_told_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sync.json").write_text('{"time_zone": 3}')
    assert SettingsFile(tmp_path).read() is None
    assert "cannot be used" in caplog.text


def test_a_disk_that_fails_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    SettingsFile(tmp_path / "file").keep(SPEC)
    assert "could not be kept" in caplog.text
