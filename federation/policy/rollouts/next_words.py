"""What a rollout does next, in words, and the commands by which a person can intervene.

Input: a RolloutRecord. Output: sentences and command lines of `fed`.
"""

from collections.abc import Iterator

from federation.policy.rollouts.records import Pause, Phase, RolloutRecord


def next_words(record: RolloutRecord) -> str:
    """Return what happens next if nobody intervenes; "" when nothing does."""
    share, canary = _share(record, record.step), record.canary
    span = _span(record.spec.strategy.bake_s)
    words = {
        Phase.PENDING: f"{_wave(record)} begins when nothing stands against it",
        Phase.STAGING: f"when version {canary} is warm in {_wave(record)}, it gets {share} of the "
        "traffic there",
        Phase.PROGRESSING: f"when every router knows of {share}, that is watched for {span}",
        Phase.BAKING: f"{_after_baking(record)}{_condition(record)}",
        Phase.PAUSED: _paused(record),
        Phase.ROLLING_BACK: f"version {record.stable} gets all traffic, then version {canary} goes",
    }
    return words.get(record.phase, "")


def _after_baking(record: RolloutRecord) -> str:
    steps = record.spec.strategy.steps
    if record.step + 1 < len(steps):
        return f"{_share(record, record.step)} becomes {_share(record, record.step + 1)}"
    if record.wave + 1 < len(record.waves):
        following = record.waves[record.wave + 1]
        gated = following.approval and not following.approved_by
        does = "waits for an approval" if gated else "begins"
        return f"{_named(record, record.wave + 1)} {does}"
    return f"version {record.canary} becomes the stable one"


def _condition(record: RolloutRecord) -> str:
    if not record.spec.strategy.analysis.enabled:
        return f" after {_span(record.spec.strategy.bake_s)}, without an analysis"
    return " if the analysis passes"


def _paused(record: RolloutRecord) -> str:
    match record.pause:
        case Pause.GATE:
            return f"nothing, until somebody approves {_gated(record)}"
        case Pause.FREEZE:
            return "it goes on when the freeze window is over"
        case Pause.INCONCLUSIVE:
            return "nothing, until somebody decides: the analysis could not"
        case Pause.MANUAL | None:
            return "nothing, until somebody resumes it"


def _wave(record: RolloutRecord) -> str:
    return _named(record, record.wave)


def _gated(record: RolloutRecord) -> str:
    """Return the wave that waits for an approval: the first, or the one after the present one."""
    return _named(record, record.wave if record.queued else record.wave + 1)


def _named(record: RolloutRecord, index: int) -> str:
    if index >= len(record.waves):
        return f"wave {index + 1}"
    where = ", ".join(record.waves[index].regions)
    return f"wave {index + 1} ({where})" if where else f"wave {index + 1}"


def _share(record: RolloutRecord, step: int) -> str:
    steps = record.spec.strategy.steps
    return f"{steps[min(step, len(steps) - 1)]:g} %" if steps else "all"


def _span(seconds: float) -> str:
    if seconds >= 120 and seconds % 60 == 0:
        return f"{seconds / 60:g} min"
    return f"{seconds:g} s"


def commands(record: RolloutRecord) -> Iterator[tuple[str, str]]:
    """Yield what a person can do now, and the command that does it; the likeliest first."""
    name, model, fed = record.meta.name, record.spec.model, "fed rollout"
    match record.phase:
        case Phase.PROMOTED:
            yield f"back to version {record.stable}", f"{fed} undo {model} --to {record.stable}"
            return
        case Phase.ROLLED_BACK | Phase.FAILED:
            yield "try again", f"{fed} start {model} --to {record.canary}"
            return
        case Phase.ROLLING_BACK:
            return
        case Phase.PAUSED if record.pause is Pause.GATE:
            yield f"let {_gated(record)} begin", f"{fed} approve {name}"
        case Phase.PAUSED if record.pause is Pause.INCONCLUSIVE:
            yield "go on all the same", f"{fed} promote {name}"
        case Phase.PAUSED if record.pause is Pause.FREEZE:
            yield "go on in spite of the freeze", f"{fed} promote {name}"
        case Phase.PAUSED:
            yield "go on", f"{fed} resume {name}"
        case _:
            yield "stop here", f"{fed} pause {name}"
            if record.phase in (Phase.PROGRESSING, Phase.BAKING):
                yield "do not wait for the analysis", f"{fed} promote {name}"
    yield f"back to version {record.stable}", f"{fed} abort {name}"
