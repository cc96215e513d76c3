"""May this region's canary stay, may its share rise? The checks, in the order of their weight.

Input: a RegionState, the time, and which routers are silent. Output: a Verdict in words. Only facts
and statistics fail a canary; everything that is missing keeps it from passing and says what.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from federation.policy.analysis.histograms import merged
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.phrasing import (
    accusation,
    beyond,
    concentration,
    doubt,
    praise,
    remaining,
    seen,
)
from federation.policy.analysis.region import RegionState
from federation.policy.analysis.split_check import mismatch
from federation.policy.analysis.verdict import Outcome, Reason, Verdict
from federation.policy.analysis.words import NAMES, about, change, listed, percent, span

MANY = 100  # canary requests from which point values make a step wait
DIVERTED = 0.3  # of the canary's requests answered by the stable version make a step wait
STEADY = 500  # stable requests from which its own drift is told

_HOPELESS = frozenset({Reason.SPLIT, Reason.ITSELF})  # waiting does not help

Check = Callable[[RegionState, float], Verdict | None]


def fail(region: RegionState, metric: Metric, now: float) -> Verdict:
    """Return the verdict that a metric broke its limit."""
    words = f"fail: {accusation(region, metric, now)}"
    return _verdict(region, Outcome.FAILED, Reason.HARM, words, metric=metric)


def judge_golden(region: RegionState) -> Verdict | None:
    """Return a failure if golden inputs were answered wrongly: a fact, not statistics."""
    allowed = region.limits.max_wrong_inputs
    for cluster, result in sorted(region.golden.items()):
        if result.wrong > allowed:
            told = f": {result.words}" if result.words else ""
            words = (
                f"fail: {result.wrong} of {result.inputs} golden inputs answered wrongly at "
                f"{cluster} in {region.region}, {allowed} allowed{told}"
            )
            return _verdict(region, Outcome.FAILED, Reason.WRONG_INPUTS, words)
    return None


def judge_pass(region: RegionState, now: float, silent: Mapping[str, float]) -> Verdict:
    """Return whether the region passes, where nothing failed. `silent`: seconds, by router."""
    checks: tuple[Check, ...] = (
        _traffic,
        lambda r, _: _silent(r, silent),
        _split,
        _diverted,
        lambda r, t: _baking(r, t - r.began, r.limits.min_bake_s),
        _requests,
        _clients,
        _load,
        _reference,
        _itself,
        _drift,
        _sure,
    )
    found = next((v for check in checks if (v := check(region, now)) is not None), None)
    if found is None:
        words = f"pass: {praise(region)}"
        if (load := region.load()) is not None and load < 0.8:
            words += f"; canary ran at {load:.2g}× the stable's load per replica"
        return _verdict(region, Outcome.PASSED, Reason.KEPT, words)
    return found


def judge_step(
    region: RegionState, now: float, silent: Mapping[str, float], bake_s: float
) -> Verdict:
    """Return whether the canary may get a larger share. No proof is asked: the share is small."""
    checks: tuple[Check, ...] = (
        _traffic,
        lambda r, _: _silent(r, silent),
        _split,
        _diverted,
        lambda r, t: _baking(r, t - r.weighed, bake_s),
        _requests,
        _load,
        _itself,
        _suspect,
    )
    found = next((v for check in checks if (v := check(region, now)) is not None), None)
    if found is None:
        counts = seen(region, Metric.ERRORS)
        words = (
            f"pass: nothing speaks against a larger share in {region.region} after "
            f"{counts.canary_requests:,} canary requests"
        )
        return _verdict(region, Outcome.PASSED, Reason.KEPT, words)
    return found


def judge_together(regions: Sequence[RegionState], now: float, *, step: bool) -> Verdict:
    """Return whether regions of a wave that are too small to pass alone may pass together.

    The products of their evidence speak against one thing only: a version that is beyond a limit in
    all of them. The words say so. What else keeps a region from passing was asked of each before,
    as far as its few requests let it be.
    """
    checks = (_load, _itself, _suspect) if step else (_load, _reference, _itself, _drift, _suspect)
    for region in regions:
        found = next((v for check in checks if (v := check(region, now)) is not None), None)
        if found is not None:
            return found
    limits, names = regions[0].limits, ", ".join(region.region for region in regions)
    errors = [region.evidence[Metric.ERRORS] for region in regions]
    n, of = (sum(getattr(e, v).requests for e in errors) for v in ("canary", "stable"))
    if n < limits.min_requests:
        told = f"{n:,} canary requests in {names} together, {limits.min_requests:,} needed"
        return _pooled(Reason.FEW_REQUESTS, f"inconclusive: {told}")
    told = f"pooled over {names}, which are too small to pass alone"
    if step:
        words = f"pass: nothing speaks against a larger share, {told}; {n:,} canary requests"
        return _pooled(Reason.KEPT, words)
    if sum(e.canary.effective() for e in errors) < limits.min_clients:
        told = f"a few clients make most of the canary's requests in {names}, also together"
        return _pooled(Reason.FEW_CLIENTS, f"inconclusive: {told}")
    for metric in limits.metrics:
        if sum(r.safes.get(metric, 0.0) for r in regions) < math.log(1 / limits.beta):
            words = f"{NAMES[metric]} in {names} not yet sure to be within the limit, also together"
            return _pooled(Reason.UNSURE, f"inconclusive: {words}", metric)
    words = f"pass: {told}: no limit is broken in all of them; {n:,} against {of:,} requests"
    return _pooled(Reason.KEPT, words)


def _pooled(reason: Reason, words: str, metric: Metric | None = None) -> Verdict:
    outcome = Outcome.PASSED if reason is Reason.KEPT else Outcome.INCONCLUSIVE
    return Verdict(outcome=outcome, reason=reason, words=words, metric=metric)


def _verdict(
    region: RegionState,
    outcome: Outcome,
    reason: Reason,
    words: str,
    *,
    metric: Metric | None = None,
    wait_s: float | None = None,
) -> Verdict:
    details = {f"{m}.log_harm": x for m, x in region.harms.items()}
    details |= {f"{m}.log_safe": x for m, x in region.safes.items()}
    return Verdict(
        outcome=outcome,
        reason=reason,
        words=words,
        region=region.region,
        metric=metric,
        wait_s=wait_s,
        pause=reason in _HOPELESS,
        details=details,
    )


def _unclear(
    region: RegionState, reason: Reason, told: str, *, wait_s: float | None = None
) -> Verdict:
    return _verdict(region, Outcome.INCONCLUSIVE, reason, f"inconclusive: {told}", wait_s=wait_s)


def _traffic(region: RegionState, now: float) -> Verdict | None:
    if region.weight > 0:
        return None
    return _unclear(region, Reason.NO_TRAFFIC, f"the canary gets no traffic in {region.region}")


def _silent(region: RegionState, silent: Mapping[str, float]) -> Verdict | None:
    if not silent:
        return None
    names, longest = sorted(silent, key=lambda r: -silent[r]), max(silent.values())
    routers = f"router{'s' if len(names) > 1 else ''} {listed(names)}"
    told = f"{routers} silent for {span(longest)}: nothing can pass in {region.region}"
    verdict = _unclear(region, Reason.SILENT, told)
    if longest < region.limits.silence_pause_s:
        return verdict
    return _paused(verdict)


def _paused(verdict: Verdict) -> Verdict:
    return Verdict(
        outcome=verdict.outcome,
        reason=verdict.reason,
        words=verdict.words,
        region=verdict.region,
        pause=True,
        details=verdict.details,
    )


def _split(region: RegionState, now: float) -> Verdict | None:
    if (got := mismatch(region.shares[0], region.shares[1], region.weight / 100)) is None:
        return None
    share = percent(got, 1)
    told = f"canary got {share} of requests in {region.region}, weight is {region.weight:g} %"
    return _unclear(region, Reason.SPLIT, told)


def _diverted(region: RegionState, now: float) -> Verdict | None:
    """A canary that is full, or out after failures, shows less than it would with its share."""
    drawn, diverted = sum(region.shares[0]), sum(region.shares[2])
    if drawn < MANY or diverted <= DIVERTED * drawn:
        return None
    share = percent(diverted / drawn, 0)
    told = (
        f"{share} of the canary's requests in {region.region} were answered by the stable version: "
        "the canary was full, or failed too often"
    )
    return _unclear(region, Reason.DIVERTED, told)


def _baking(region: RegionState, elapsed: float, least: float) -> Verdict | None:
    if elapsed >= least:
        return None
    told = f"baking in {region.region}: {elapsed:.0f} of {span(least)}"
    return _unclear(region, Reason.BAKING, told, wait_s=least - elapsed)


def _requests(region: RegionState, now: float) -> Verdict | None:
    n, need = region.evidence[Metric.ERRORS].canary.requests, region.limits.min_requests
    if n >= need:
        return None
    elapsed = now - region.began - region.limits.settle_s
    wait = (need - n) * elapsed / n if n and elapsed > 0 else None
    told = f"{n:,} canary requests in {region.region}, {need:,} needed{about(wait)}"
    return _unclear(region, Reason.FEW_REQUESTS, told, wait_s=wait)


def _clients(region: RegionState, now: float) -> Verdict | None:
    evidence = region.evidence[Metric.ERRORS]
    if evidence.canary.effective() >= region.limits.min_clients:
        return None
    clients, share = concentration(evidence)
    who = f"{clients} clients make" if clients > 1 else "1 client makes"
    told = f"{who} {share:.0%} of the canary's requests in {region.region}".replace("%", " %")
    return _unclear(region, Reason.FEW_CLIENTS, told)


def _load(region: RegionState, now: float) -> Verdict | None:
    if (load := region.overload()) is None:
        return None
    told = (
        f"canary runs at {load:.1f}× the stable's load per replica in {region.region}: "
        "latency and refusals are not judged"
    )
    return _unclear(region, Reason.LOAD, told)


def _reference(region: RegionState, now: float) -> Verdict | None:
    if Metric.P95 in region.evidence:
        return None
    told = (
        f"too few requests of the stable version in {region.region} to know its p95, "
        f"{region.limits.min_reference:,} needed"
    )
    return _unclear(region, Reason.NO_REFERENCE, told)


def _itself(region: RegionState, now: float) -> Verdict | None:
    """A latency that differs among the stable version's own clients says nothing of the canary."""
    if region.own is None or not region.own.alarmed:
        return None
    ratio = region.own.ratio(merged(*(span.stable for span in region.spans)))
    by = f" by {change(ratio)}" if ratio is not None and ratio > 1 else ""
    told = (
        f"the stable version differs from itself{by} in {region.region}, one half of its clients "
        "against the other: latency is not judged"
    )
    return _unclear(region, Reason.ITSELF, told)


def _drift(region: RegionState, now: float) -> Verdict | None:
    """The stable may suffer from the canary beside it, and then hides what the canary does."""
    for metric in (Metric.ERRORS, Metric.P95):
        evidence = region.evidence[metric]
        usual, stable = evidence.rule.usual, evidence.stable
        share = stable.bad / max(stable.requests, 1)
        if stable.requests < STEADY or share <= max(4 * usual, usual + 0.02):
            continue
        what = "errors" if metric is Metric.ERRORS else "slow answers"
        told = (
            f"the stable version itself has {percent(share, 1)} {what} in {region.region}, "
            f"{percent(usual, 1)} before the rollout"
        )
        return _unclear(region, Reason.DRIFT, told)
    return None


def _sure(region: RegionState, now: float) -> Verdict | None:
    limits = region.limits
    safes = {m: region.safes.get(m, 0.0) for m in limits.metrics}
    metric = min(limits.metrics, key=safes.__getitem__)
    if safes[metric] >= math.log(1 / limits.beta):
        return None
    wait = remaining(now - region.began, safes[metric], limits.beta)
    told = doubt(region, metric) + about(wait)
    words = f"inconclusive: {told}"
    outcome, reason = Outcome.INCONCLUSIVE, Reason.UNSURE
    return _verdict(region, outcome, reason, words, metric=metric, wait_s=wait)


def _suspect(region: RegionState, now: float) -> Verdict | None:
    limits = region.limits
    for metric in limits.metrics:
        if (evidence := region.evidence.get(metric)) is None:
            continue
        many = evidence.canary.requests >= MANY and beyond(region, metric)
        if many or region.harms.get(metric, 0.0) >= math.log(limits.hold_at):
            words = f"inconclusive: {doubt(region, metric)}"
            outcome, reason = Outcome.INCONCLUSIVE, Reason.SUSPECT
            return _verdict(region, outcome, reason, words, metric=metric)
    return None
