"""What proves that this agent speaks for its cluster: the join token, then the credential.

Input: the join token's file (read at each dial, so that it may be replaced while the agent runs),
and the credential that the control plane gave. Output: secrets for the link and for downloads.
"""

import uuid
from pathlib import Path

from federation.contract.errors import Invalid
from federation.runtime.files import write_atomic


class IdentityFiles:
    """The credential and the instance of one agent, in its state directory."""

    def __init__(self, state_dir: Path, *, join_token_file: Path | None) -> None:
        self._credential_file = state_dir / "credential"
        self._joining_file = state_dir / "joining"
        self._join_token_file = join_token_file
        self._credential = _read(self._credential_file)
        self._instance = ""

    def __repr__(self) -> str:
        return f"IdentityFiles(joined={bool(self._credential)}, token={self._join_token_file})"

    @property
    def credential(self) -> str:
        """The stored credential; empty until the agent has joined."""
        return self._credential

    def check(self) -> None:
        """Raise Invalid if there is nothing to show to a control plane."""
        if not self.secrets():
            raise Invalid(
                "this cluster has not joined yet, and there is no join token.",
                hint="Give --join-token-file with the token that `fed cluster register` printed.",
            )

    def secrets(self) -> tuple[str, ...]:
        """Return what to show: the credential first, then the join token, where they exist."""
        token = _read(self._join_token_file) if self._join_token_file else ""
        return tuple(secret for secret in (self._credential, token) if secret)

    def instance(self) -> str:
        """Return the name of this run of the agent.

        Until it has joined the name outlives a restart, because a join token belongs to the first
        instance that used it: an agent that dies between its welcome and the write of its
        credential can still join.
        """
        if not self._instance:
            joining = "" if self._credential else _read(self._joining_file)
            self._instance = joining or uuid.uuid4().hex
            if not joining and not self._credential:
                write_atomic(self._joining_file, self._instance.encode(), mode=0o600)
        return self._instance

    def keep_credential(self, credential: str) -> None:
        """Store the credential, readable by this user only, and use it from now on."""
        write_atomic(self._credential_file, credential.encode(), mode=0o600)
        self._credential = credential
        self._joining_file.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {path}: {error}.") from None
