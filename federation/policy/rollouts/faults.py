"""What agents tell that speaks against a canary: it does not load, it takes the engine with it, it
answers golden inputs wrongly.

Input: reports, and what changed from one to the next. Output: a verdict that names the cause, or
nothing. What routers count is judged elsewhere: `evidence`.
"""

from collections.abc import Iterable
from datetime import timedelta

from federation.contract.types import ObservedVersion, VersionState
from federation.policy.analysis.verdict import Outcome
from federation.policy.records import ClusterRecord, LastObserved
from federation.policy.rollouts.ongoing import change, look_at, moving
from federation.policy.rollouts.records import Phase, RolloutRecord, VerdictRecord
from federation.policy.rollouts.waiting import seen
from federation.policy.standing import is_confirmed, serving_versions
from federation.policy.state import Step

FETCH_PATIENCE = timedelta(minutes=10)  # a transfer that fails is tried again; networks recover
_BEGUN = frozenset(
    {
        VersionState.STAGED,
        VersionState.VERIFIED,
        VersionState.LOADED,
        VersionState.WARMED,
        VersionState.FAILED,
    }
)


def find(step: Step, record: RolloutRecord) -> VerdictRecord | None:
    """Return the first fault at the clusters of the waves that have begun."""
    state = step.state
    for wave in record.entered:
        for name in wave.clusters:
            cluster = state.clusters.get(name)
            if cluster is None or not is_confirmed(state, name):
                continue
            if words := _fault_at(step, record, cluster):
                metric, told = words
                return VerdictRecord(
                    outcome=Outcome.FAILED,
                    words=told,
                    region=cluster.spec.region,
                    metric=metric,
                    at=step.now,
                )
    return None


def _fault_at(step: Step, record: RolloutRecord, cluster: ClusterRecord) -> tuple[str, str] | None:
    name, canary = cluster.meta.name, record.canary
    if words := record.losses.get(name):
        return "crash", words
    given = {v.version: v for v in serving_versions(cluster, record.spec.model)}
    found = seen(step.state, name, record)
    if found is None or canary not in given or found.digest != given[canary].digest:
        return None
    if found.state is VersionState.FAILED and not _may_recover(step, record, found):
        why = found.reason or "no reason was given"
        return "load", f"version {canary} failed at {name}: {why}"
    analysis = record.spec.strategy.analysis
    if analysis.enabled and found.golden and found.golden.wrong > analysis.max_wrong_inputs:
        golden = found.golden
        said = f": {golden.words}" if golden.words else ""
        return "golden", (
            f"version {canary} answered {golden.wrong} of {golden.inputs} golden inputs wrongly "
            f"at {name}, limit {analysis.max_wrong_inputs}{said}"
        )
    return None


def _may_recover(step: Step, record: RolloutRecord, found: ObservedVersion) -> bool:
    """Whether it is only its transfer that fails, and not for long."""
    sync = found.sync
    if sync is None:
        return False
    there = sync.reused_bytes + sync.from_origin_bytes + sync.from_peers_bytes
    fetching = there < sync.total_bytes or not sync.total_bytes
    return fetching and step.now - record.since < FETCH_PATIENCE


def note_losses(
    step: Step, cluster: ClusterRecord, after: LastObserved, *, same_stream: bool
) -> None:
    """Note where a version stopped to be warm without our doing, while a canary was there.

    `cluster` is its record before the report, `after` what that says. Agents count such losses, so
    that none is missed while nobody listened; of those that do not, two reports of one stream tell:
    an agent that restarts finds what it serves anew. What is found goes into the rollout's record,
    and so to disk together with the report.
    """
    before = cluster.last
    if before is None or not step.state.going:
        return
    told = before.observed.observed_generation, after.observed.observed_generation
    compares = same_stream and told[0] == told[1]  # else it was told to change: that may be why
    was = {(v.model, v.version): v for v in before.observed.versions}
    now = {(v.model, v.version): v for v in after.observed.versions}
    for model, number in was.keys() | now.keys():
        record = moving(step.state, model) if model in step.state.going else None
        if record is None or record.phase is Phase.ROLLING_BACK:
            continue
        if number not in (record.stable, record.canary):
            continue
        pair = was.get((model, number)), now.get((model, number))
        words = _counted(*pair) or (_compared(*pair, after) if compares else "")
        if words and _is_to_blame(cluster, record, number, (*was.values(), *now.values())):
            name = cluster.meta.name
            words = (
                f"version {number} stopped to serve at {name} while version {record.canary} was "
                f"there: {words}"
            )
            change(step, record, losses={**record.losses, name: words})
            look_at(step, record.meta.name, step.now)


def _counted(was: ObservedVersion | None, now: ObservedVersion | None) -> str:
    """Return why a version was lost by what its agent counts; "" = it was not."""
    if now is None or now.losses is None:
        return ""
    known = was.losses.times if was and was.losses and was.digest == now.digest else 0
    if now.losses.times <= known:
        return ""
    return now.losses.words or now.reason or "the engine lost it"


def _compared(was: ObservedVersion | None, now: ObservedVersion | None, after: LastObserved) -> str:
    """Return why a version was lost by two reports of one stream; "" = it was not."""
    if was is None or was.state is not VersionState.WARMED:
        return ""
    if now is not None and now.state is VersionState.WARMED:
        return ""
    return now.reason if now and now.reason else _engine_words(after)


def _is_to_blame(
    cluster: ClusterRecord, record: RolloutRecord, number: int, seen: Iterable[ObservedVersion]
) -> bool:
    """Whether the version was to stay, and the canary was loaded there or about to be."""
    given = {v.version for v in serving_versions(cluster, record.spec.model)}
    if number not in given or record.canary not in given:
        return False
    mine = (record.spec.model, record.canary)
    return any((v.model, v.version) == mine and v.state in _BEGUN for v in seen)


def _engine_words(after: LastObserved) -> str:
    engine = after.observed.engine
    return engine.reason or ("the engine was lost" if not engine.ready else "the engine lost it")
