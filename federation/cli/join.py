"""The commands that start agents and routers, and the file that a join token may be written to.

Input: the answer to a registration. Output: one line for a shell; a new file with mode 0600. The
token never becomes an argument of a process: the printed command writes it to a file first.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from federation.contract.errors import Invalid

_HTTP_PORT = 7480


class JoinFile:
    """A new file for the token; removed again if no token was written to it."""

    def __init__(self, path: str | None) -> None:
        self.path = path or ""
        self._written = False
        self._descriptor = -1

    def __repr__(self) -> str:
        return f"JoinFile({self.path!r}, written={self._written})"

    def __enter__(self) -> "JoinFile":
        """Create the file before the token exists, so that no token is lost for want of one."""
        if self.path:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            try:
                self._descriptor = os.open(self.path, flags, 0o600)
            except FileExistsError:
                raise Invalid(
                    f"{self.path} exists already.", hint="Name a new file with --token-file."
                ) from None
            except OSError as error:
                raise Invalid(f"cannot write {self.path}: {error.strerror}.") from None
        return self

    def write(self, token: str) -> None:
        """Write the token, if there is a file."""
        if self.path:
            os.write(self._descriptor, f"{token}\n".encode())
            self._written = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.path:
            os.close(self._descriptor)
            if not self._written:
                Path(self.path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What a newcomer needs: where the control plane is, the pin by which it is known, the token.

    An empty `token` is in the file already. `control_plane` is HOST:PORT of its gRPC.
    """

    endpoint: str
    control_plane: str | None
    pin: str
    token: str
    token_file: str

    def flags(self) -> list[str]:
        """Return the flags that agents and routers share."""
        words = ["--control-plane", self.control_plane or _grpc_address(self.endpoint)]
        words += ["--control-plane-url", self.endpoint, "--ca-pin", self.pin]
        return [*words, "--join-token-file", self.token_file]

    def line(self, words: list[str]) -> str:
        """Return a command as one line for a shell, which writes the token's file first."""
        line = shlex.join(words)
        if not self.token:
            return line
        written = f"printf %s {shlex.quote(self.token)} > {shlex.quote(self.token_file)}"
        return f"(umask 077; {written}) && {line}"

    def __repr__(self) -> str:
        return f"Invitation({self.endpoint}, token={'yes' if self.token else 'no'})"


def agent_command(name: str, invitation: Invitation, *, extra: list[str]) -> str:
    """Return the line to paste at the edge; `extra` holds flags about engine and connectivity."""
    words = ["fed-edge-agent", "--cluster", name, *invitation.flags(), *extra]
    return invitation.line(words)


def router_command(name: str, invitation: Invitation) -> str:
    """Return the line to paste where the router shall run."""
    return invitation.line(["fed-router", "--name", name, *invitation.flags()])


def _grpc_address(endpoint: str) -> str:
    """Guess where agents dial from where operators do: the same host, the port after."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "127.0.0.1", (parts.port or _HTTP_PORT) + 1
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
