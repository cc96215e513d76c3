"""How another terminal finds the running demo and speaks with it.

Input: a state file in the user's runtime directory that names the demo's Unix socket; one JSON
object a line. Output: the demo's answers. Only the user who started the demo can open the socket.
"""

import asyncio
import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from federation.contract.errors import Conflict, FederationError, Invalid, Unavailable
from federation.runtime.files import write_atomic

Json = dict[str, Any]
Handler = Callable[[str, str], Awaitable[Json]]
_ANSWER_S = 60.0


class NoDemo(Unavailable):
    """No demo is running."""

    reason = "no-demo"


def state_path(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the demo of that name notes how to reach it."""
    base = environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"fed-{name}-{os.getuid()}.json"


def write_state(path: Path, state: Json) -> None:
    """Note a running demo."""
    write_atomic(path, json.dumps(state, indent=1).encode(), mode=0o600)


def read_state(name: str) -> Json:
    """Return the note of the running demo; raises NoDemo."""
    path = state_path(name)
    missing = NoDemo("no demo is running.", hint="Start one with: fed demo")
    try:
        state: Json = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise missing from None
    except ValueError:
        raise NoDemo(f"{path} is damaged.", hint="Remove it.") from None
    if not _alive(int(state["pid"])):
        path.unlink(missing_ok=True)
        raise missing
    return state


def refuse_second(name: str) -> None:
    """Raise Conflict if a demo of that name runs already."""
    with contextlib.suppress(NoDemo):
        state = read_state(name)
        raise Conflict(
            f"a demo is running already (pid {state['pid']}).", hint="Stop it with: fed demo down"
        )


def ask(name: str, verb: str, target: str = "") -> Json:
    """Ask the running demo; raises NoDemo, or what the demo refused."""
    state = read_state(name)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(state["socket"])
            connection.sendall(json.dumps({"verb": verb, "target": target}).encode() + b"\n")
            with connection.makefile() as file:
                answer: Json = json.loads(file.readline() or "{}")
        except (OSError, ValueError) as error:
            raise Unavailable(f"the demo (pid {state['pid']}) does not answer: {error}.") from None
    if "error" in answer:
        raise Invalid(str(answer["error"]), hint=str(answer.get("hint", "")))
    return answer


async def serve(path: Path, handle: Handler) -> asyncio.Server:
    """Answer on a Unix socket until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(await _answer(await reader.readline(), handle)).encode())
            await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, path)


async def _answer(line: bytes, handle: Handler) -> Json:
    try:
        asked = json.loads(line)
        return await handle(str(asked["verb"]), str(asked["target"]))
    except FederationError as error:
        return {"error": error.message, "hint": error.hint}
    except (ValueError, KeyError, TypeError):
        return {"error": "the request is malformed."}


def wait_gone(pid: int, limit_s: float = 60.0) -> None:
    """Wait until a process has ended; raises Unavailable."""
    for _ in range(int(limit_s * 10)):
        if not _alive(pid):
            return
        time.sleep(0.1)
    raise Unavailable(f"the demo (pid {pid}) has not ended after {limit_s:.0f} s.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
