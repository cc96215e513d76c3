"""What a canary is judged by, and what is believed about noise.

Input: the AnalysisSpec that a model owner wrote, and how long a step bakes. Output: Limits, with
which every judgement of the rollout is made. The numbers that no owner sets were chosen and tried
by simulation: docs/analysis.md.
"""

from dataclasses import dataclass
from enum import StrEnum

from federation.contract.errors import Invalid
from federation.contract.rollout import AnalysisSpec


class Metric(StrEnum):
    """Which requests of a version count as bad."""

    ERRORS = "errors"  # failed, timed out, answered 5xx
    REFUSED = "refused"  # answered 429 or 503
    P95 = "p95"  # slower than the version's bound: `rules.slow_rule`
    SHADOW = "shadow"  # answered otherwise than the stable version


class Shadow(StrEnum):
    """What differing answers to the same request mean."""

    REPORT = "report"  # nothing: the new version is meant to answer differently
    JUDGE = "judge"  # they are faults, as far as the stable version agrees with itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Rates are shares of requests (0.01 = 1 %), times are seconds.

    A bad request may be more frequent on the canary by `*_slope` times the stable's share plus a
    slack. `alpha` bounds how often a rollout that keeps its limits is aborted, over all its regions
    and metrics; `beta` how often a region passes with a version at a limit.
    """

    max_error_rate: float = 0.01
    max_p95_ratio: float = 1.2
    max_wrong_inputs: int = 0
    min_requests: int = 100
    max_bake_s: float = 1200.0
    min_bake_s: float = 300.0  # of a region, all its steps together
    settle_s: float = 60.0  # after a change of weight latency is not judged: caches are cold
    min_clients: float = 6.0  # effective number of user buckets
    alpha: float = 0.05
    beta: float = 0.05
    error_slope: float = 1.25
    error_slack: float = 0.0005  # at least
    refused_slope: float = 1.5
    refused_slack: float = 0.005  # at least
    shadow: Shadow = Shadow.REPORT
    shadow_slack: float = 0.01
    pool: bool = False  # small regions of a wave may pass together
    alone: bool = False  # all traffic at once: compared with the stable's last hour
    hold_at: float = 5.0  # evidence of harm with which a step up waits
    load_ratio: float = 1.25  # the canary's requests a replica may exceed the stable's so far
    min_reference: int = 100  # requests from which the stable's percentiles are taken
    report_s: float = 5.0  # routers report so often; silent after three
    silence_pause_s: float = 300.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is judged in every region."""
        always = (Metric.ERRORS, Metric.REFUSED, Metric.P95)
        return (*always, Metric.SHADOW) if self.shadow is Shadow.JUDGE else always


def limits_of(spec: AnalysisSpec, *, bake_s: float = 120.0, alone: bool = False) -> Limits:
    """Return the limits that a model owner asked for; a short bake shortens the waits with it.

    `alone`: the canary never has a stable version beside it. Raises Invalid if no analysis can keep
    them.
    """
    if not 0 < spec.max_error_rate < 1:
        raise Invalid(
            f"an error rate of at most {spec.max_error_rate:g} cannot be judged.",
            hint="Give a share above 0 and below 1, as 0.01 or 1%.",
        )
    if not 1 <= spec.max_p95_ratio <= 100:
        raise Invalid(
            f"a p95 ratio of at most {spec.max_p95_ratio:g} cannot be judged.",
            hint="Give a ratio from 1 to 100; 1.2 allows 20 % more.",
        )
    return Limits(
        max_error_rate=spec.max_error_rate,
        max_p95_ratio=spec.max_p95_ratio,
        max_wrong_inputs=spec.max_wrong_inputs,
        min_requests=spec.min_requests,
        max_bake_s=spec.max_bake_s,
        min_bake_s=min(300.0, 2.5 * bake_s),
        settle_s=min(60.0, bake_s / 2),
        shadow=Shadow.JUDGE if spec.judge_shadow else Shadow.REPORT,
        pool=spec.pool_small_regions,
        alone=alone,
    )
