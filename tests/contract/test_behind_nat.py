"""A cluster in a network of its own, into which no connection can be made, serves all the same."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.behind_nat import BIG, FINDINGS_FILE, LISTENING_FILE
from tests.pki import make_authority

ROOT = Path(__file__).resolve().parents[2]
# The networks live as long as this script: the site's in the router's, nothing of the machine's.
SCRIPT = r"""
set -eu
mount -t tmpfs none /run
ip link set lo up
ip netns add site
ip link add up0 type veth peer name up1 netns site
ip addr add 10.9.0.1/24 dev up0
ip link set up0 up
ip -n site addr add 10.9.0.2/24 dev up1
ip -n site link set up1 up
ip -n site link set lo up
mkfifo "$2/stdin"
ip netns exec site "$1" -m tests.contract.behind_nat site "$2" < "$2/stdin" &
exec 3> "$2/stdin"
"$1" -m tests.contract.behind_nat router "$2"
exec 3>&-
wait
"""
MISSING = [tool for tool in ("ip", "ss", "unshare") if shutil.which(tool) is None]


def can_make_networks() -> bool:
    """Whether this user may make network namespaces."""
    command = ["unshare", "--net", "--mount", "true"]
    return not MISSING and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    os.geteuid() != 0 or not can_make_networks(),
    reason=f"NOT TESTED behind NAT: needs root, network namespaces and ip, ss (missing: {MISSING})",
)
def test_a_site_without_a_reachable_port_serves_all_the_same(tmp_path: Path) -> None:
    make_authority(tmp_path)
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", SCRIPT, "sh", sys.executable, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'edge-agent'}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listening = [line.split()[3] for line in (tmp_path / LISTENING_FILE).read_text().splitlines()]
    assert listening, "the engine listens, on the loopback"
    assert [address for address in listening if not address.startswith("127.0.0.1:")] == []
    findings = json.loads((tmp_path / FINDINGS_FILE).read_text())
    assert findings["reachable"] == []
    assert findings["reversed"] == findings["dialled"]
    status, text, stream_status, stream, big_status, length, digest, burst = findings["reversed"]
    assert (status, stream_status, big_status, burst) == (200, 200, 200, [200])
    assert json.loads(text)["outputs"] == [{"name": "x", "data": [1]}]
    assert stream.count("data: ") == 5
    answer = {"model_name": "m", "model_version": "1", "outputs": [{"name": "x"}]}
    whole = json.dumps(answer).encode() + BIG
    assert (length, digest) == (len(whole), hashlib.sha256(whole).hexdigest())
