"""`fed audit` against a log that a test may forge as it likes."""

import json
import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from federation.cli import audit
from federation.cli.audit import BrokenLog, verified
from federation.policy.audit import chain
from federation.policy.audit.records import START, AuditEntry, AuditOutcome, Head
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane
from tests.federation.store.audit_log import AT

Json = dict[str, Any]
PAGE = 4


class Log:
    """What the control plane answers: `entries` may be forged, `head` is what it wrote."""

    def __init__(self) -> None:
        self.entries: list[Json] = []
        self.head = START
        self.on_page: Any = lambda: None

    def write(self, times: int = 1, **changed: Any) -> None:
        for _ in range(times):
            number = self.head.id + 1
            values: Json = {
                "at": AT.replace(year=2000 + number),
                "actor": "user/ada",
                "source": "192.0.2.7",
                "action": "ClusterRegistered",
                "kind": "Cluster",
                "name": f"c{number}",
                "outcome": AuditOutcome.DONE,
                "reason": "ClusterRegistered",
                "message": f"cluster 'c{number}' was registered.",
                "request_id": f"q{number}",
            }
            self.head, entry = chain.append(self.head, AuditEntry(**(values | changed)))
            self.entries.append(chain.document(entry))

    def page(self, query: dict[str, str]) -> Json:
        self.on_page()
        after, actor = int(query.get("after", 0)), query.get("actor")
        rows = list(enumerate(self.entries, start=1))
        wanted = [
            (row, entry)
            for row, entry in rows
            if row > after
            and actor in (None, entry.get("actor"))
            and query.get("kind") in (None, entry.get("kind"))
            and query.get("since", "") <= entry.get("at", "")
        ][:PAGE]
        return {
            "entries": [entry for _, entry in wanted],
            "next": wanted[-1][0] if wanted else after,
        }


@pytest.fixture
def log(plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch) -> Log:
    log, others = Log(), plane.answer

    def answer(method: str, parts: list[str], query: dict[str, str], body: bytes) -> Json:
        match method, parts:
            case "GET", ["api", "v1", "audit"]:
                return log.page(query)
            case "GET", ["api", "v1", "audit", "head"]:
                return {"id": log.head.id, "hash": log.head.hash}
            case _:
                return others(method, parts, query, body)

    monkeypatch.setattr(plane, "answer", answer)
    return log


def test_the_log_is_a_table(fed: Fed, log: Log) -> None:
    log.write(9)
    log.write(
        actor="anonymous",
        action="AccessDenied",
        kind="Call",
        name="POST /api/v1/join",
        outcome=AuditOutcome.DENIED,
        message="no.",
        count=7,
    )
    result = fed("audit")
    head, *lines = result.out.splitlines()
    assert head.split() == audit._TITLES
    assert len(lines) == 10
    assert lines[0].split()[:7] == [
        "1",
        "2001-01-01T00:00:00Z",
        "user/ada",
        "192.0.2.7",
        "ClusterRegistered",
        "cluster/c1",
        "done",
    ]
    assert lines[-1].endswith("denied    no. (7 times)")
    assert "call/POST /api/v1/join" in lines[-1]


def test_wide_shows_what_a_request_can_be_found_by(fed: Fed, log: Log) -> None:
    log.write()
    head, line = fed("audit", "-o", "wide").out.splitlines()
    assert head.split()[-4:] == ["REASON", "REQUEST", "HASH", "MESSAGE"]
    assert f"q1        {log.head.hash}" in line


def test_json_is_one_entry_a_line_as_it_is_stored(fed: Fed, log: Log) -> None:
    log.write(3)
    lines = fed("audit", "-o", "json").out.splitlines()
    assert [json.loads(line) for line in lines] == log.entries
    assert lines == [chain.line(entry) for entry in log.entries]


def test_only_the_newest_are_shown_unless_asked_for(fed: Fed, log: Log) -> None:
    log.write(audit.LAST + 5)
    log.write(actor="user/eve")
    assert len(fed("audit").out.splitlines()) == 1 + audit.LAST
    assert len(fed("audit", "--last", "3").out.splitlines()) == 1 + 3
    assert len(fed("audit", "--actor", "user/ada").out.splitlines()) == 1 + audit.LAST + 5
    last = fed("audit", "--actor", "user/ada", "--last", "2", "-o", "json").out.splitlines()
    assert [json.loads(line)["id"] for line in last] == [audit.LAST + 4, audit.LAST + 5]
    assert "user/eve" in fed("audit", "--last", "1").out
    assert fed("audit", "--kind", "Model").out.splitlines()[1:] == []


def test_since_takes_a_length_of_time_or_a_time(fed: Fed, log: Log) -> None:
    log.write(40)  # one a year, from 2001
    since = "2030-01-01T00:00:00.000000Z"
    assert len(fed("audit", "--since", since, "-o", "json").out.splitlines()) == 11
    assert len(fed("audit", "--since", "1s", "-o", "json").out.splitlines()) < 20
    assert len(fed("audit", "--since", "7300000d", "-o", "json").out.splitlines()) == 40


def test_an_empty_log(fed: Fed, log: Log) -> None:
    assert len(fed("audit").out.splitlines()) == 1
    assert fed("audit", "-o", "json").out == ""
    assert fed("audit", "verify").out.startswith("0 entries, as they were written.")


def test_follow_shows_what_comes_until_it_is_interrupted(
    fed: Fed, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "EVERY_S", 0.01)
    log.write(2)
    pages: list[int] = []

    def on_page() -> None:
        pages.append(len(log.entries))
        if len(pages) in (5, 8):
            log.write()
        if len(pages) == 12:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    log.on_page = on_page
    result = fed("audit", "--follow", "-o", "json")
    assert result.code == 130
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [1, 2, 3, 4]


# ------------------------------------------------------------ verify


def test_a_whole_log_verifies_and_its_hash_can_be_kept(fed: Fed, log: Log) -> None:
    log.write(11)
    result = fed("audit", "verify")
    assert result.code == 0
    kept = log.head.hash
    assert result.out == f"11 entries, as they were written. Newest hash: {kept}\n"
    log.write(3)
    assert fed("audit", "verify", "--expect", kept).code == 0
    assert fed("audit", "verify", "--expect", f"SHA256:{kept}").code == 0
    assert fed("audit", "verify", "--expect", "0" * 64).code == 0  # the hash of an empty log


def forge_row(log: Log) -> None:
    log.entries[5]["actor"] = "user/eve"


def forge_row_and_hash(log: Log) -> None:
    log.entries[5]["actor"] = "user/eve"
    log.entries[5]["hash"] = chain.digest(log.entries[5])
    log.entries[6]["previous"] = log.entries[5]["hash"]


def delete_row(log: Log) -> None:
    del log.entries[5]


def reorder(log: Log) -> None:
    log.entries[5], log.entries[6] = log.entries[6], log.entries[5]


def unreadable(log: Log) -> None:
    log.entries[5] = {}


def cut_tail(log: Log) -> None:
    del log.entries[5:]


@pytest.mark.parametrize(
    ("forge", "first"),
    [
        (forge_row, 6),
        (forge_row_and_hash, 7),
        (delete_row, 6),
        (reorder, 6),
        (unreadable, 6),
        (cut_tail, 6),
    ],
)
def test_the_first_broken_entry_is_told(fed: Fed, log: Log, forge: Any, first: int) -> None:
    log.write(11)
    forge(log)
    result = fed("audit", "verify")
    assert result.code == 1
    assert f"the audit log is broken at entry {first}: " in result.err
    assert result.out == ""


def test_a_log_that_was_written_anew_is_found_by_a_hash_kept_elsewhere(fed: Fed, log: Log) -> None:
    log.write(11)
    kept = log.head.hash
    log.entries, log.head = [], START
    log.write(11, actor="user/eve")
    assert fed("audit", "verify").code == 0
    result = fed("audit", "verify", "--expect", kept)
    assert result.code == 1
    assert f"no entry of the 11 has the expected hash {kept}" in result.err


def test_a_log_cut_together_with_its_head_is_found_by_a_hash_kept_elsewhere(
    fed: Fed, log: Log
) -> None:
    log.write(11)
    kept = log.head.hash
    cut_tail(log)
    log.head = Head(id=5, hash=log.entries[-1]["hash"])
    assert fed("audit", "verify").code == 0
    assert fed("audit", "verify", "--expect", kept).code == 1


def test_entries_that_come_while_it_verifies_are_no_mistake(fed: Fed, log: Log) -> None:
    log.write(6)
    calls: list[None] = []

    def on_page() -> None:
        calls.append(None)
        if len(calls) < 4:
            log.write()

    log.on_page = on_page
    assert fed("audit", "verify").code == 0


@pytest.mark.parametrize("expect", ["", "abc", "g" * 64, "md5:" + "0" * 64])
def test_what_is_no_hash_is_wrong_usage(fed: Fed, log: Log, expect: str) -> None:
    result = fed("audit", "verify", "--expect", expect)
    assert result.code == 2
    assert "64 hexadecimal digits" in result.err


def test_the_expected_hash_is_told_apart_from_the_head() -> None:
    with pytest.raises(BrokenLog, match="the control plane wrote 3 entries"):
        verified([], head=Head(id=3, hash="a" * 64), expect="b" * 64)


# ------------------------------------------------------------ export


def test_an_exported_log_verifies_without_a_control_plane(
    fed: Fed, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(11, message="größer ∑ 🙂")
    file = tmp_path / "audit.jsonl"
    result = fed("audit", "export", str(file))
    assert result.code == 0
    assert result.err == f"11 entries; the hash of the newest: {log.head.hash}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text(encoding="utf-8").count("\n") == 11
    monkeypatch.setenv("FED_ENDPOINT", "http://127.0.0.1:1")
    kept = log.head.hash
    assert fed("audit", "verify", "--file", str(file), "--expect", kept).code == 0
    assert fed("audit", "verify", "--file", "-", stdin=file.read_text("utf-8")).code == 0


@pytest.mark.parametrize(
    ("edit", "first"),
    [
        (lambda lines: [*lines[:5], lines[5].replace("ada", "eve"), *lines[6:]], 6),
        (lambda lines: lines[:5] + lines[6:], 6),
        (lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]], 6),
        (lambda lines: [*lines[:5], "not JSON", *lines[6:]], 6),
        (lambda lines: [*lines[:5], lines[5][:40]], 6),
        (lambda lines: [*lines[:5], '{"id":6,"id":6}', *lines[6:]], 6),
        (lambda lines: lines[5:], 1),
    ],
)
def test_an_edited_export_is_found(
    fed: Fed, log: Log, tmp_path: Path, edit: Any, first: int
) -> None:
    log.write(11)
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(edit([chain.line(entry) for entry in log.entries])))
    result = fed("audit", "verify", "--file", str(file))
    assert result.code == 1
    assert f"broken at entry {first}: " in result.err


def test_a_cut_export_is_found_by_a_kept_hash(fed: Fed, log: Log, tmp_path: Path) -> None:
    log.write(11)
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(chain.line(entry) for entry in log.entries[:-1]))
    assert fed("audit", "verify", "--file", str(file)).code == 0
    assert fed("audit", "verify", "--file", str(file), "--expect", log.head.hash).code == 1


def test_bytes_that_are_no_text_are_no_traceback(fed: Fed, log: Log, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    assert fed("audit", "verify", "--file", str(file)).code == 1


def test_files_that_cannot_be_used_are_told(fed: Fed, log: Log, tmp_path: Path) -> None:
    missing = fed("audit", "verify", "--file", str(tmp_path / "none"))
    assert (missing.code, "no such file" in missing.err.lower()) == (1, True)
    nowhere = fed("audit", "export", str(tmp_path / "no" / "folder"))
    assert (nowhere.code, "cannot write" in nowhere.err) == (1, True)


def test_export_to_stdout_is_nothing_but_the_log(fed: Fed, log: Log) -> None:
    log.write(6)
    assert fed("audit", "export", "-").out.splitlines() == [chain.line(e) for e in log.entries]
