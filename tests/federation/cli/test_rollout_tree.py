from datetime import UTC, datetime

import click

from federation.cli.documents import Json
from federation.cli.rollout_tree import headline, lines
from tests.federation.cli.fake_rollouts import status

NOW = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)


def document(told: Json) -> Json:
    return {
        "metadata": {"name": "m-2", "createdAt": "2026-01-01T00:00:00Z"},
        "spec": {"model": "m", "version": 2},
        "status": told,
    }


def test_the_tree_tells_all_that_a_person_wants_to_know() -> None:
    made = lines(document(status(next_at="2026-01-01T00:10:41Z")), NOW, colour=False)
    assert made == [
        "rollout/m-2   m 1 → 2   baking, wave 1 of 2, step 1 of 3   10m",
        "├─ ◐ wave 1     5 %",
        "│  └─ eu                  5 %  inconclusive: too few requests",
        "│     └─ eu-1               warmed     2 replicas",
        "└─ ◌ wave 2     0 %  being brought there meanwhile, needs an approval",
        "   └─ us                  0 %",
        "      └─ us-1               pending    ▇▇▇▇░░░░  62 %  418.0 MB/s  18s left",
        "  verdict:   inconclusive: too few requests",
        "  next:      5 % becomes 25 % if the analysis passes (in 41s at the earliest)",
        "  back to version 1:                 fed rollout abort m-2",
    ]


def test_plain_characters_and_colours() -> None:
    plain = lines(document(status("paused", pause="gate")), NOW, colour=True, unicode=False)
    assert all(line.isascii() for line in plain)
    assert plain[0] != click.unstyle(plain[0])
    assert "m 1 -> 2   paused (gate), wave 1 of 2" in click.unstyle(plain[0])


def test_what_went_back_says_so() -> None:
    told = status("rolled-back", reason="p95 +38 % in eu")
    told["waves"][0]["state"] = "back"
    told["waves"][1]["state"] = "waiting"
    golden = {"inputs": 4, "wrong": 3, "words": ""}
    told["waves"][0]["regions"][0]["clusters"][0]["golden"] = golden
    made = lines(document(told), NOW, colour=False)
    assert made[0].endswith("rolled-back   12m")
    assert "✗ wave 1     5 %  back at version 1" in made[1]
    assert "(1 cluster)" in made[2]
    assert "  now:       p95 +38 % in eu" in made
    told["waves"][0]["state"] = "now"
    assert "4 golden inputs, 3 wrong" in lines(document(told), NOW, colour=False)[3]


def test_what_came_from_elsewhere_is_cleaned() -> None:
    told = status(reason="evil\x1b[31m\nline")
    assert all("\x1b" not in line for line in lines(document(told), NOW, colour=False))


def test_a_document_of_another_version_does_not_break_it() -> None:
    assert lines({}, NOW, colour=False) == ["rollout/     →    "]
    assert headline({"status": status("promoted")}) == "promoted"


def test_numbers_stand_where_there_is_no_verdict_yet() -> None:
    told = status()
    region = told["waves"][0]["regions"][0]
    region["verdict"] = None
    assert "so far: errors 0.1 % against 0.2 %" in lines(document(told), NOW, colour=False)[2]
    region["verdict"] = {"outcome": "fail", "words": "fail: p95 +38 %"}  # the outcome, once
    assert lines(document(told), NOW, colour=False)[2].endswith("5 %  fail: p95 +38 %")
