"""Many simulated rollouts: `python -m tests.simulation --seeds 2000`.

Input: which seeds. Output: each failing seed at once, with the command that runs it again; at the
end how many failed, how long it took, and what happened how often in which phase of a rollout.
Exit code 1 if any failed.
"""

import argparse
import sys
import time
from collections import Counter

from tests.simulation import runs

KINDS = {"chaos": runs.chaos, "good": runs.good, "bad": runs.bad, "back": runs.back}
TESTS = {
    "chaos": "test_invariants_hold_under_chaos",
    "good": "test_a_good_version_is_promoted_however_bad_the_network",
    "bad": "test_a_bad_version_stays_in_its_first_wave",
    "back": "test_rolling_back_from_any_phase_ends_in_the_old_assignment",
}
EVERY = 100  # seeds, after which it tells how far it is


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first one (0)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of: %(default)s")
    wanted = parser.parse_args()
    failed: Counter[str] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    verdicts: Counter[str] = Counter()  # by what routers counted
    requests = 0
    for seed in range(wanted.first, wanted.first + wanted.seeds):
        for kind in wanted.kinds.split(","):
            try:
                world = KINDS[kind](seed)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it belongs to this seed
                failed[kind] += 1
                _tell(kind, seed, failure)
                continue
            seen += world.seen
            requests += world.served.attempts.total()
            verdicts[kind] += runs.by_traffic(world)
        if (seed + 1) % EVERY == 0:
            print(f"{seed + 1}: {dict(failed)}, {time.process_time():.0f} s", flush=True)
    _summary(seen)
    print(f"{requests:,} requests; judged bad by what routers counted: {dict(verdicts)}")
    print(f"{wanted.seeds} seeds each, {failed.total()} failed, {time.process_time():.0f} CPU s")
    if verdicts["good"] > runs.ALPHA * wanted.seeds + 1:
        print(f"{verdicts['good']} good versions were convicted: more than {runs.ALPHA:.0%}")
        return 1
    return bool(failed)


def _tell(kind: str, seed: int, failure: Exception) -> None:
    words = str(failure).split("\n")[0]
    again = f"FED_TEST_SEED={seed} pytest tests/simulation -k {TESTS[kind]}"
    print(f"FAILED {kind} {seed}: {type(failure).__name__} {words}\n  {again}", flush=True)


def _summary(seen: Counter[tuple[str, str]]) -> None:
    by_what: dict[str, list[str]] = {}
    for (what, phase), times in sorted(seen.items()):
        by_what.setdefault(what, []).append(f"{phase} {times}")
    for what, phases in by_what.items():
        print(f"{what}: {', '.join(phases)}")


if __name__ == "__main__":
    sys.exit(main())
