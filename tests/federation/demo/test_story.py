from pathlib import Path

from federation.demo.geography import load_geography
from federation.demo.load_stats import Outcome
from federation.demo.story import Story, StoryOptions, total_of
from tests.federation.demo.fakes import idle_demo, small_plan

_PAGE = """\
# TYPE fed_agent_loads_total counter
fed_agent_loads_total{model="filetype",result="ok"} 2.0
fed_agent_loads_total{model="shakespeare",result="ok"} 3.0
fed_agent_loads_created 1.7e9
"""


def test_samples_of_one_metric_are_added_up() -> None:
    assert total_of(_PAGE, "fed_agent_loads_total") == 5
    assert total_of("plain_total 4\n", "plain_total") == 4
    assert total_of(_PAGE, "absent") == 0


def _outcome(continent: str, region: str, error: str = "") -> Outcome:
    return Outcome(
        due_s=0, latency_s=0.1, kind="k", continent=continent, region=region, error=error
    )


async def _judged(tmp_path: Path, outcomes: list[Outcome]) -> dict[str, bool]:
    async with idle_demo(tmp_path / "run") as demo:
        story = Story(demo, load_geography(), StoryOptions())
        story.judge(outcomes)
    return {check.name: check.passed for check in story.checks}


async def test_one_failed_request_fails_the_check(tmp_path: Path) -> None:
    world = ("Africa", "Asia", "Europe", "North America", "South America")
    good = [_outcome(c, r) for c in world for r in ("eu-west", "us-east")]
    assert await _judged(tmp_path, good) == {"all requests": True, "near regions answer": True}
    bad = [*good, _outcome("Asia", "eu-west", error="HTTP 503")]
    assert (await _judged(tmp_path, bad))["all requests"] is False


async def test_no_request_at_all_is_no_success(tmp_path: Path) -> None:
    assert await _judged(tmp_path, []) == {"all requests": False, "near regions answer": False}


async def test_finish_looks_for_what_was_left_behind(tmp_path: Path) -> None:
    root = tmp_path / "run"
    async with idle_demo(root, small_plan()) as demo:
        story = Story(demo, load_geography(), StoryOptions())
        assert await story.finish() == 1  # its directory is still there
        assert "files: some" in story.checks[-1].measured
    assert await story.finish() == 1  # the failed check stays on the record
    assert story.checks[-1].measured == "0 processes, files: none"
    assert story.checks[-1].passed
