"""The fetcher is killed at system calls: nothing torn is visible, and the next run finishes.

FED_TEST_KILLS is the number of kills (default 30); all points of all scenarios are about 700.
"""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from edge_agent.sync.shelf import Shelf
from tests.edge_agent.sync.fetcher import NEW, OLD, STREAMS, fetch, prepare
from tests.edge_agent.sync.packages import visible
from tests.edge_agent.sync.syscalls import counted, run

KILLS = int(os.environ.get("FED_TEST_KILLS", "30"))
LIMIT_S = 60 + KILLS


def points(tmp_path: Path, scenario: str, count: int) -> list[tuple[str, int]]:
    """Return system calls to be killed at, spread over all that one run makes."""
    root = tmp_path / "probe"
    prepare(root, scenario)
    ended = run(root, tmp_path / "sent", scenario)
    assert ended.code == 0, ended.stderr
    every = [(call, n + 1) for call, times in counted(ended.log).items() for n in range(times)]
    if count >= len(every):  # all of them, and again: threads and the disk are never twice alike
        return (every * -(-count // len(every)))[:count]
    return [every[int(k * len(every) / count)] for k in range(count)]


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("scenario", STREAMS)
def test_a_kill_at_any_system_call_tears_nothing(tmp_path: Path, scenario: str) -> None:
    tally: Counter[str] = Counter()
    for number, (call, nth) in enumerate(points(tmp_path, scenario, -(-KILLS // len(STREAMS)))):
        root, sent = tmp_path / f"{number}" / "state", tmp_path / f"{number}" / "sent"
        root.mkdir(parents=True)
        prepare(root, scenario)
        inject = f"inject={call}:signal=KILL:when={nth}"
        ended = run(root, sent, scenario, "-e", inject, calls=call)
        assert ended.killed or ended.code == 0, (call, nth, ended.stderr)
        tally["runs"] += 1
        tally["kills"] += ended.killed
        tally["after publication"] += ended.killed and NEW.folder(root).exists()
        tally["sent again"] += check(root, sent, scenario, f"{call} {nth}")
    print(f"{scenario}: {dict(tally)}")
    assert tally["kills"] >= tally["runs"] // 2


def check(root: Path, sent: Path, scenario: str, point: str) -> int:
    """Look at what is visible, finish, look again; return how many chunks were sent twice."""
    names = [p.folder(root).relative_to(root / "packages").as_posix() for p in (OLD, NEW)]
    if scenario == "upgrade":
        assert OLD.is_at(OLD.folder(root)), point
    assert set(visible(root) if (root / "packages").exists() else ()) <= set(names), point
    if NEW.folder(root).exists():
        assert NEW.is_at(NEW.folder(root)), point
        Shelf(root).verify(*NEW.key)
    first = set(sent.read_text().split()) if sent.exists() else set()
    again = root.parent / "again"
    fd = os.open(again, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        fetch(root, scenario, fd)
    finally:
        os.close(fd)
    Shelf(root).verify(*NEW.key)
    assert NEW.is_at(NEW.folder(root)), point
    if scenario == "upgrade":
        Shelf(root).verify(*OLD.key)
    assert not list((root / "staging").glob("*/*")), point
    assert not list((root / "trash").iterdir()), point
    twice = len(first.intersection(again.read_text().split()))
    assert twice <= STREAMS[scenario], (point, twice)
    return twice


@pytest.mark.timeout(LIMIT_S)
def test_kills_one_after_the_other_make_progress(tmp_path: Path) -> None:
    """Runs that are all killed: what they have done adds up, and no chunk is sent in vain."""
    dice, root, sent = random.Random(3), tmp_path / "state", tmp_path / "sent"
    root.mkdir()
    runs = 0
    while not NEW.folder(root).exists():
        runs += 1
        assert runs < 40
        call, nth = dice.choice(["pwrite64", "fsync", "close", "openat"]), dice.randint(2, 40)
        run(root, sent, "streams", "-e", f"inject={call}:signal=KILL:when={nth}", calls=call)
    assert check(root, tmp_path / "none", "streams", "the end") == 0
    resent = Counter(sent.read_text().split())
    assert sum(resent.values()) - len(resent) <= STREAMS["streams"] * runs
