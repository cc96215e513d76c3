import json
from collections.abc import Callable

import pytest

from federation.cli import live
from federation.cli.documents import Json
from tests.federation.cli.conftest import Fed
from tests.federation.cli.fake_control_plane import FakeControlPlane


def transfer(cluster: str, **changes: object) -> Json:
    row: Json = {
        "model": "llama",
        "version": 3,
        "cluster": cluster,
        "region": "eu",
        "state": "pending",
        "stage_only": False,
        "urgency": "normal",
        "done_bytes": 400_000_000,
        "total_bytes": 1_600_000_000,
        "bytes_per_second": 20_000_000.0,
        "eta_s": 60.0,
        "from_origin_bytes": 300_000_000,
        "from_peers_bytes": 0,
        "reused_bytes": 100_000_000,
        "waiting": "",
        "reason": "",
    }
    return row | changes


@pytest.fixture(autouse=True)
def transfers(plane: FakeControlPlane) -> None:
    plane.transfers = [
        transfer("a"),
        transfer("b", bytes_per_second=0.0, eta_s=0.0, waiting="its window opens at 22:00"),
        transfer("c", state="warmed", done_bytes=1_600_000_000, bytes_per_second=0, eta_s=0),
        transfer("c", model="ocr", version=1),
    ]


def test_a_row_for_each_model_version_and_cluster(fed: Fed) -> None:
    head, *lines = fed("get", "sync", "llama").out.splitlines()
    assert head.split() == [
        *("MODEL", "VERSION", "CLUSTER", "STATE", "DONE"),
        *("RATE", "ETA", "ORIGIN", "PEERS", "REUSED", "WAITING"),
    ]
    cells = [[cell for cell in line.split("   ") if cell.strip()] for line in lines]
    assert [[cell.strip() for cell in row] for row in cells] == [
        *(
            [
                *("llama", "3", "a", "pending", "400.0 MB of 1.6 GB (25%)", "20.0 MB/s"),
                *("60s", "300.0 MB", "-", "100.0 MB", "-"),
            ],
            [
                *("llama", "3", "b", "pending", "400.0 MB of 1.6 GB (25%)", "-", "-"),
                *("300.0 MB", "-", "100.0 MB", "its window opens at 22:00"),
            ],
            [
                *("llama", "3", "c", "warmed", "1.6 GB", "-", "-", "300.0 MB", "-"),
                *("100.0 MB", "-"),
            ],
        )
    ]
    assert len(fed("get", "sync").out.splitlines()) == 5
    assert "URGENCY" in fed("get", "transfers", "-o", "wide").out


def test_json_is_the_answer_of_the_api(fed: Fed) -> None:
    shown = json.loads(fed("get", "sync/ocr", "-o", "json").out)
    assert [row["model"] for row in shown["items"]] == ["ocr"]


def test_nothing_there_is_told_on_stderr(fed: Fed, plane: FakeControlPlane) -> None:
    plane.transfers = []
    assert fed("get", "sync").out == ""
    assert "any model yet" in fed("get", "sync").err


def test_what_cannot_be_printed_is_told(fed: Fed) -> None:
    assert "have no names" in fed("get", "sync", "-o", "name").err
    assert "cannot print YAML" in fed("get", "sync", "-w", "-o", "yaml").err


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let things happen instead of waiting a second; after the last one, Ctrl-C."""

    def plan(*happenings: Callable[[], object]) -> None:
        left = list(happenings)

        def pause() -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(live, "_pause", pause)

    return plan


def test_watching_prints_what_changed(
    fed: Fed, plane: FakeControlPlane, later: Callable[..., None]
) -> None:
    def move() -> None:
        plane.transfers[0] = transfer("a", done_bytes=800_000_000)

    later(lambda: None, move)
    result = fed("get", "sync", "--watch")
    assert result.code == 130
    head, *lines = result.out.splitlines()
    assert head.startswith("MODEL")
    assert len(lines) == 5
    assert "(50%)" in lines[-1]
    assert "\x1b" not in result.out
    later(move)
    plane.transfers[0] = transfer("a")
    told = [json.loads(line) for line in fed("get", "sync", "-w", "-o", "json").out.splitlines()]
    assert [line["type"] for line in told] == ["ADDED"] * 4 + ["MODIFIED"]


def test_on_a_terminal_the_table_is_drawn_anew(
    fed: Fed, later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_is_terminal", lambda: True)
    later(lambda: None)
    out = fed("get", "sync", "-w").out
    assert out.count("\x1b[5A\x1b[J") == 1
    assert out.count("MODEL") == 2


def test_an_outage_is_waited_for(
    fed: Fed, plane: FakeControlPlane, later: Callable[..., None]
) -> None:
    plane.drop_answers = 2
    later(lambda: None)
    result = fed("get", "sync", "-w")
    assert "Trying again until Ctrl-C" in result.err
    assert len(result.out.splitlines()) == 5
