"""The sync settings on disk: a restarted agent keeps to them before it hears of them again.

Input: settings as the control plane told them. Output: the newest ones, or None.
"""

import logging
from pathlib import Path

import msgspec

from federation.contract.sync import SyncSpec
from federation.runtime.files import write_atomic

log = logging.getLogger(__name__)


class SettingsFile:
    """`sync.json` in the agent's state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "sync.json"

    def __repr__(self) -> str:
        return f"SettingsFile({self._path})"

    def read(self) -> SyncSpec | None:
        """Return what was kept; None if there is none that can be used, which is logged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=SyncSpec)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s cannot be used; the control plane is asked: %s", self._path, error)
            return None

    def keep(self, spec: SyncSpec) -> None:
        """Replace what was kept. A full disk is logged: a restart then waits to be told anew."""
        try:
            write_atomic(self._path, msgspec.json.encode(spec))
        except OSError:
            log.exception("the sync settings could not be kept")
