"""Child processes that are spoken to by lines of JSON."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

START_S = 60.0


class Child:
    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log

    def tell(self, **command: object) -> None:
        assert self._process.stdin is not None
        if self._process.returncode is None:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def hear(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        if not line:
            raise SystemExit(f"a process ended early; its log:\n{self._log.read_text()[-3000:]}")
        told: dict[str, Any] = json.loads(line)
        return told

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 3.0)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def compile_all(*modules: str) -> None:
    """Have the bytecode of modules on the disk, as an installed agent has: its memory is measured,
    and a compiler takes some that it never gives back."""
    program = f"import {', '.join(f'benchmarks.sync.{module}' for module in modules)}"
    subprocess.run([sys.executable, "-c", program], check=True, env=_environment())


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@contextlib.asynccontextmanager
async def child(module: str, folder: Path, config: Mapping[str, object]) -> AsyncIterator[Child]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"benchmarks.sync.{module}", str(folder / "config.json")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=_environment(),
        )
    held = Child(process, folder / "log")
    try:
        yield held
    finally:
        await held.stop()
