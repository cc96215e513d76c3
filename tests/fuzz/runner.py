"""Fuzzes targets, each in a process of its own, from its seeds.

Input: the name of a target and for how many seconds. Output: "" or the story of a finding, with the
input that causes it. What was learned stays in a directory, if one is given, for the next time.
"""

import re
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import Target

AVAILABLE = find_spec("atheris") is not None
_SLOWEST_S = 10  # libFuzzer's own limit; the targets' is sharper, and counts their own time only


def fuzz(target: Target, seconds: int, *, learned: Path | None = None, seed: int = 0) -> str:
    """Fuzz one target; return the story of a finding, or "". The same `seed`, the same dice; 0 =
    others each time."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = learned / target.name if learned else Path(folder, "corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        for known in target.seeds:
            (corpus / sha256(known).hexdigest()[:16]).write_bytes(known)
        command = [
            *(sys.executable, "-m", "tests.fuzz.worker", target.name),
            *(f"-max_total_time={seconds}", f"-timeout={_SLOWEST_S}", "-rss_limit_mb=2048"),
            *(f"-max_len={min(target.max_bytes, 4096)}", f"-seed={seed}"),
            *(f"-artifact_prefix={folder}/", "-print_final_stats=1", str(corpus)),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + 60,
            check=False,
        )
        if done.returncode == 0:
            print(f"{target.name}: {_executions(done.stderr)} inputs, nothing found")
            return ""
        found = [path.read_bytes() for path in Path(folder).iterdir() if path.is_file()]
        return f"{target.name}: inputs {found!r}\n{_story(done.stdout + done.stderr)}"


def _executions(text: str) -> str:
    match = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    return match[1] if match else "?"


def _story(text: str) -> str:
    text = re.sub(r"^INFO: Instrumenting .*\n", "", text, flags=re.MULTILINE)
    start = text.find("=== Uncaught Python exception")
    return text[start : start + 6000] if start >= 0 else text[-6000:]
