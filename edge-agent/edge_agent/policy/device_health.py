"""Whether an accelerator can be given work: raw signals to a verdict with its reason in words.

Input: what one look at a device found, what earlier looks left behind, monotonic seconds. Output: a
Health, and what to remember. Heat for seconds is no fault; a fault that comes and goes stays for a
while; what the driver itself says of recovery outweighs an error of the past. Sources of the rules:
https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/error-recovery-and-response-flags.html and
`nvidia_xids`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from edge_agent.policy.nvidia_xids import Effect, xid

GAP_S = 30.0  # a sign that was away for less was there all the time
SILENCE_S = 30.0  # a driver that is silent for longer is no longer believed to be well


class Recovery(IntEnum):
    """What the driver says a GPU needs (NVML_GPU_RECOVERY_ACTION_*; drivers from R565 on)."""

    NONE = 0
    GPU_RESET = 1
    NODE_REBOOT = 2
    DRAIN_P2P = 3
    DRAIN_AND_RESET = 4
    RECOVER_IMEX_DOMAIN = 5
    BUS_RESET = 6
    SYSTEM_REBOOT = 7


_RECOVERY_WORDS = {
    Recovery.GPU_RESET: "the driver asks for a reset of the GPU",
    Recovery.NODE_REBOOT: "the driver asks for a restart of the host",
    Recovery.DRAIN_P2P: "the driver asks to end traffic between GPUs",
    Recovery.DRAIN_AND_RESET: "the driver asks to drain the GPU and to reset it",
    Recovery.BUS_RESET: "the driver asks for a reset of the GPU's bus",
    Recovery.SYSTEM_REBOOT: "the driver asks for a restart of the host",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What one look found; a default means that nothing is wrong, or that the source can't tell."""

    lost: str = ""  # why the device cannot be reached
    unusable: str = ""  # why nothing can run on it although nothing is broken
    xids: tuple[int, ...] = ()  # codes since the last look
    last_xid: int = 0  # the last code that an exporter saw; it shows it until it restarts
    recovery: Recovery | None = None
    remap_failed: bool = False
    remap_pending: bool = False
    remaps: bool = False  # the device replaces bad rows of its memory while it works
    uncorrected: int = 0  # uncorrected memory errors since the driver was loaded
    hot: bool = False  # slowed down by the hardware for heat
    warm: bool = False  # slowed down by the driver for heat
    braked: bool = False  # slowed down by the power supply


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict."""

    healthy: bool = True
    reason: str = ""  # why it is not healthy
    note: str = ""  # what an operator should know of a healthy device


class Sign(StrEnum):
    """Kinds of faults."""

    LOST = "lost"
    UNUSABLE = "unusable"
    RECOVERY = "recovery"
    XID = "xid"
    REMAP = "remap"
    MEMORY = "memory"
    HOT = "hot"
    WARM = "warm"
    BRAKED = "braked"


@dataclass(frozen=True, slots=True)
class Rule:
    """A sign is a fault once seen for `after_s`, and none once gone for `clear_s` seconds."""

    after_s: float
    clear_s: float


RULES = {
    Sign.LOST: Rule(0, 30),
    Sign.UNUSABLE: Rule(0, 0),
    Sign.RECOVERY: Rule(0, 0),
    Sign.XID: Rule(0, 60),
    Sign.REMAP: Rule(0, 0),
    Sign.MEMORY: Rule(0, 0),
    Sign.HOT: Rule(60, 120),
    Sign.WARM: Rule(600, 120),
    Sign.BRAKED: Rule(60, 120),
}


@dataclass(frozen=True, slots=True)
class Episode:
    """One sign over time: seen at `since_s` first and at `seen_s` last."""

    since_s: float
    seen_s: float
    words: str
    fault: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of a device."""

    episodes: tuple[tuple[Sign, Episode], ...] = ()
    xid: int = 0  # the last code after which it cannot be used; 0 = none, or recovered since


def judge(past: Past, signals: Signals, now_s: float) -> tuple[Past, Health]:
    """Return what to remember, and how the device is."""
    code = _standing_xid(past, signals)
    seen = dict(_signs(signals, code))
    before = dict(past.episodes)
    episodes = []
    for sign, rule in RULES.items():
        episode = _follow(before.get(sign), seen.get(sign, ""), rule, now_s)
        if episode is not None:
            episodes.append((sign, episode))
    reasons = [episode.words for _, episode in episodes if episode.fault]
    note = "; ".join(_notes(signals))
    return Past(tuple(episodes), code), Health(not reasons, "; ".join(reasons), note)


class HealthRecords:
    """The pasts of several devices."""

    def __init__(self) -> None:
        self._pasts: dict[str, Past] = {}

    def __repr__(self) -> str:
        sick = sum(any(e.fault for _, e in past.episodes) for past in self._pasts.values())
        return f"HealthRecords({len(self._pasts)} devices, {sick} at fault)"

    def judge(self, device: str, signals: Signals, now_s: float) -> Health:
        """Return how a device is, and remember."""
        past = self._pasts.get(device, Past())
        self._pasts[device], health = judge(past, signals, now_s)
        return health

    def keep(self, devices: Collection[str]) -> None:
        """Forget all other devices."""
        self._pasts = {name: past for name, past in self._pasts.items() if name in devices}


def _standing_xid(past: Past, signals: Signals) -> int:
    """Return the code that still counts: it does until the driver says that nothing is needed, or
    the device was away, which means that it was reset."""
    fatal = [code for code in signals.xids if xid(code).effect is Effect.UNUSABLE]
    if fatal:
        return fatal[-1]
    was_lost = any(sign is Sign.LOST for sign, _ in past.episodes)
    recovered = signals.recovery is Recovery.NONE or (was_lost and not signals.lost)
    return 0 if recovered else past.xid


def _signs(signals: Signals, code: int) -> Iterator[tuple[Sign, str]]:
    if signals.lost:
        yield Sign.LOST, signals.lost
    if signals.unusable:
        yield Sign.UNUSABLE, signals.unusable
    if signals.recovery in _RECOVERY_WORDS:
        yield Sign.RECOVERY, _RECOVERY_WORDS[signals.recovery]
    told = xid(signals.last_xid)
    if code or told.effect is Effect.UNUSABLE:
        yield Sign.XID, str(xid(code) if code else told)
    if signals.remap_failed:
        yield Sign.REMAP, "bad memory can no longer be remapped: the GPU has to be replaced"
    if signals.uncorrected and not signals.remaps:
        yield Sign.MEMORY, f"{signals.uncorrected} uncorrected memory errors, needs a reset"
    yield from _slow(signals)


def _slow(signals: Signals) -> Iterator[tuple[Sign, str]]:
    if signals.hot:
        yield Sign.HOT, "slowed down by heat"
    if signals.warm:
        yield Sign.WARM, "kept slow for heat"
    if signals.braked:
        yield Sign.BRAKED, "slowed down by its power supply"


def _follow(before: Episode | None, words: str, rule: Rule, now_s: float) -> Episode | None:
    """Return how a sign goes on; None if there is nothing to remember."""
    if words:
        since_s = before.since_s if before else now_s
        fault = bool(before and before.fault) or now_s - since_s >= rule.after_s
        return Episode(since_s, now_s, words, fault)
    if before is None:
        return None
    away_s = now_s - before.seen_s
    patience_s = rule.clear_s if before.fault else GAP_S
    return before if away_s < patience_s else None


def _notes(signals: Signals) -> Iterator[str]:
    if signals.remap_pending:
        yield "bad memory is remapped at the next reset"
    if signals.uncorrected and signals.remaps:
        yield f"{signals.uncorrected} uncorrected memory errors since the driver was loaded"
    if signals.recovery is Recovery.RECOVER_IMEX_DOMAIN:
        yield "the driver asks to recover the IMEX domain"
    for code in dict.fromkeys(signals.xids):
        if xid(code).effect is not Effect.UNUSABLE:
            yield str(xid(code))
    if signals.hot or signals.warm:
        yield "it is slowed down by heat"
    if signals.braked:
        yield "it is slowed down by its power supply"
