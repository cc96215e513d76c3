"""What it costs that the cluster dialled: nothing that a client would notice."""

import statistics
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from federation.runtime.clock import SystemClock
from tests.contract.reversed_rig import LOOPS, joined, run
from tests.pki import make_authority

PAIRS, WARM_UP = 400, 50
MORE_S = 100e-6
NOISE_S = 300e-6  # other processes share the machine's cores


@pytest.mark.parametrize("loop", LOOPS)
def test_a_small_request_costs_at_most_a_hundred_microseconds_more(
    tmp_path: Path, loop: str
) -> None:
    async def scenario() -> None:
        authority = make_authority(tmp_path)
        clock = SystemClock().monotonic_s  # uvloop.time counts milliseconds
        taken: dict[bool, list[float]] = {True: [], False: []}
        async with AsyncExitStack() as stack:
            routers = {
                dialled: (await stack.enter_async_context(joined(authority, dialled=dialled)))[1]
                for dialled in (True, False)
            }
            for pair in range(WARM_UP + PAIRS):
                for dialled in (True, False) if pair % 2 else (False, True):
                    began_s = clock()
                    assert await routers[dialled].infer() == 200
                    taken[dialled].append(clock() - began_s)
        dialled_s, reversed_s = (statistics.median(taken[kind][WARM_UP:]) for kind in (True, False))
        print(
            f"{loop}: p50 dialled {dialled_s * 1e6:.0f} us, reversed {reversed_s * 1e6:.0f} us, "
            f"{(reversed_s - dialled_s) * 1e6:+.0f} us, ratio {reversed_s / dialled_s:.3f}"
        )
        assert reversed_s <= 1.25 * dialled_s + MORE_S + NOISE_S

    run(loop, scenario())
