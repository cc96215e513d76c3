"""Whatever is changed in a log, `verify` tells the first entry that is not what was written."""

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.policy.audit import chain
from federation.policy.audit.chain import Broken
from federation.policy.audit.records import START, AuditEntry, AuditOutcome, Head

Log = list[dict[str, Any]]
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(number: int = 1, **changed: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "at": AT + timedelta(seconds=number),
        "actor": "user/ada",
        "source": "192.0.2.7",
        "action": "RegionApplied",
        "kind": "Region",
        "name": f"r{number}",
        "outcome": AuditOutcome.DONE,
        "reason": "RegionCreated",
        "message": f"region 'r{number}' was created.",
        "request_id": f"q{number}",
    }
    return AuditEntry(**(values | changed))


def log_of(entries: list[AuditEntry]) -> tuple[Log, Head]:
    head, documents = START, []
    for one in entries:
        head, appended = chain.append(head, one)
        documents.append(chain.document(appended))
    return documents, head


@pytest.fixture
def log() -> Log:
    return log_of([entry(number) for number in range(1, 6)])[0]


def test_a_log_as_it_was_written_leads_to_its_head() -> None:
    log, head = log_of([entry(number) for number in range(1, 4)])
    assert chain.verify(log) == head
    assert head.id == 3
    assert chain.verify([]) == START


def test_a_log_can_be_verified_page_by_page(log: Log) -> None:
    first = chain.verify(log[:2])
    assert isinstance(first, Head)
    assert chain.verify(log[2:], first) == chain.verify(log)


def test_a_head_of_another_log_does_not_fit(log: Log) -> None:
    assert chain.verify(log[2:], Head(id=2, hash="1" * 64)) == Broken(
        id=3,
        why="it does not follow from the entry before it: one of the two was replaced",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor", "user/eve"),
        ("at", "2026-01-01T12:00:03.000001Z"),
        ("outcome", "denied"),
        ("count", 2),
        ("count", 1.0),
        ("count", True),
        ("message", None),
        ("added", "something"),
    ],
)
def test_a_changed_entry_is_found(log: Log, key: str, value: object) -> None:
    log[2][key] = value
    assert chain.verify(log) == Broken(
        id=3, why="its content is not what was written: the hash does not fit"
    )


def test_a_changed_entry_with_a_new_hash_is_found_at_the_next_one(log: Log) -> None:
    log[2]["actor"] = "user/eve"
    log[2]["hash"] = chain.digest(log[2])
    verdict = chain.verify(log)
    assert isinstance(verdict, Broken)
    assert verdict.id == 4


@pytest.mark.parametrize("key", ["hash", "previous", "id", "actor"])
def test_an_entry_without_a_key_is_found(log: Log, key: str) -> None:
    del log[2][key]
    verdict = chain.verify(log)
    assert isinstance(verdict, Broken)
    assert verdict.id == 3


def test_a_deleted_entry_is_found(log: Log) -> None:
    del log[2]
    assert chain.verify(log) == Broken(id=3, why="it is missing: after number 2 comes number 4")


def test_reordered_entries_are_found(log: Log) -> None:
    log[1], log[2] = log[2], log[1]
    verdict = chain.verify(log)
    assert isinstance(verdict, Broken)
    assert verdict.id == 2


def test_a_repeated_entry_is_found(log: Log) -> None:
    verdict = chain.verify([*log, log[-1]])
    assert isinstance(verdict, Broken)
    assert verdict.id == 6


def test_a_truncated_log_leads_to_another_head(log: Log) -> None:
    assert chain.verify(log[:-1]) == Head(id=4, hash=log[3]["hash"])


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "3", '{"id": 1, "id": 1}', "[" * 100_000, '{"a": {"b": 1, "b": 2}}'],
)
def test_what_is_no_entry_is_told_where_it_stands(log: Log, text: str) -> None:
    assert chain.parse(text) == {}
    assert chain.verify([*log, chain.parse(text)]) == Broken(
        id=6, why="it is missing: after number 5 comes something that is no entry"
    )


def test_a_line_is_read_back_equal(log: Log) -> None:
    assert [chain.parse(chain.line(one)) for one in log] == log


def test_half_a_surrogate_pair_is_not_a_question_mark() -> None:
    [document], _ = log_of([entry(message="who? me")])
    forged = chain.parse(json.dumps(document | {"message": "who\ud800 me"}))
    assert isinstance(chain.verify([forged]), Broken)


def test_texts_are_printable_and_bounded() -> None:
    _, written = chain.append(
        START, entry(message="a\nb\x1b[31m\u202ec\ud800\x7f", name="x" * 5000)
    )
    assert written.message == "a?b?[31m?c??"
    assert len(written.name) == chain.MAX_TEXT


def test_times_are_written_in_utc_with_six_decimals() -> None:
    at = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert chain.document(entry(at=at))["at"] == "2026-01-01T00:00:00.000000Z"


TEXT = st.text(max_size=40)
ENTRIES = st.lists(
    st.builds(
        entry,
        st.integers(0, 10**6),
        actor=TEXT,
        source=TEXT,
        kind=TEXT,
        name=TEXT,
        message=TEXT,
        outcome=st.sampled_from(AuditOutcome),
        count=st.integers(1, 2**53),
    ),
    min_size=2,
    max_size=6,
)


@given(ENTRIES, st.data())
def test_every_change_of_the_bytes_is_found(entries: list[AuditEntry], data: st.DataObject) -> None:
    log, head = log_of(entries)
    lines = [chain.line(one) for one in log]
    assert chain.verify(chain.parse(line) for line in lines) == head
    row = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[row]) - 1))
    old = lines[row]
    new = data.draw(st.characters().filter(lambda c: c != old[place]))
    changed = old[:place] + new + old[place + 1 :]
    if chain.parse(changed) == log[row]:
        return  # another spelling of the same entry, like "\u0041" for "A"
    lines[row] = changed
    verdict = chain.verify(chain.parse(line) for line in lines)
    assert isinstance(verdict, Broken)
    assert verdict.id == row + 1


@given(ENTRIES)
def test_the_canonical_form_is_what_the_documentation_says(entries: list[AuditEntry]) -> None:
    """The recipe for third parties, with nothing of ours."""
    log, _ = log_of(entries)
    previous = "0" * 64
    for text in [chain.line(one) for one in log]:
        found = json.loads(text)
        told = found.pop("hash")
        canonical = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(canonical.encode()).hexdigest() == told
        assert found["previous"] == previous
        previous = told


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_and_sha256sum_come_to_the_same_hash() -> None:
    [document], head = log_of([entry(message='größer ∑ 🙂 "quoted" \\ / <&> \x7f')])
    script = "jq -cSj 'del(.hash)' | sha256sum | cut -d' ' -f1"
    done = subprocess.run(
        ["sh", "-c", script],
        input=chain.line(document),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == head.hash
