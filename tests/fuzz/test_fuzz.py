"""Each parser, fuzzed for a moment; all of its seeds; and its seeds stretched to the limit."""

import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.fuzz.runner import AVAILABLE, fuzz
from tests.fuzz.targets import TARGETS, Target

SECONDS = int(os.environ.get("FED_FUZZ_MOMENT_S", "1"))
_PIECES = (b"a", b"\n", b'"', b"[", b"{a: ", b"- ", b",", b"\\", b"data:x\n", b"%40", b"\xff", b"1")

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[dict[str, "Future[str]"]]:
    """What was found by target, once it is known; one process for each core."""
    if not AVAILABLE:
        if (sys.platform, platform.machine()) == ("linux", "x86_64"):
            pytest.fail("atheris is not installed; `make setup` installs it")
        pytest.skip("atheris exists for Linux on x86-64")
    asked = [
        target
        for item in request.session.items
        if isinstance(item, pytest.Function) and "stories" in item.fixturenames
        if isinstance(target := item.callspec.params["target"], Target)
    ]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # The same dice each time: a change is what can break it.
        yield {target.name: pool.submit(fuzz, target, SECONDS, seed=1) for target in asked}


@pytest.mark.timeout(240)  # for all of them
@every_target
def test_a_moment_of_fuzzing_finds_nothing(
    target: Target, stories: dict[str, "Future[str]"]
) -> None:
    assert stories[target.name].result() == ""


@every_target
def test_seeds_and_their_beginnings_are_parsed_or_refused(target: Target) -> None:
    target(b"")
    for seed in target.seeds:
        target(seed)
        for end in range(0, len(seed), max(len(seed) // 20, 1)):
            target(seed[:end])
            target(seed[:end] + b"\x80" + seed[end + 1 :])


@every_target
def test_the_longest_inputs_take_no_second(target: Target) -> None:
    seed = target.seeds[0]
    for piece in (*_PIECES, seed):
        for cut in (0, len(seed) // 2, len(seed)):
            room = min(target.max_bytes, 1 << 20) - len(seed)
            target(seed[:cut] + piece * (room // len(piece)) + seed[cut:])
