"""A rollout as a tree: rollout, waves, regions, clusters; the verdict, what is next, what to type.

Input: the document of a rollout, the time. Output: lines of text.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeVar

import click

from federation.cli.cells import duration, parse_time, shown, size
from federation.cli.documents import Json, look, look_list, name_of
from federation.cli.output import clean

T = TypeVar("T")

_MARKS = {"done": "●", "now": "◐", "next": "◌", "waiting": "○", "back": "✗"}
_WORDS = {
    "done": "done",
    "now": "",
    "next": "being brought there meanwhile",
    "waiting": "waits for its turn",
    "back": "back at version {stable}",
}
_BAR = 8  # characters
_PLAIN = str.maketrans({"●": "*", "◐": "o", "◌": ".", "○": "-", "✗": "x", "▇": "#", "░": "."})
_LINES = (("├─ ", "|- "), ("└─ ", "`- "), ("│  ", "|  "), (" → ", " -> "))
_PHASES = {
    "promoted": "green",
    "rolled-back": "red",
    "failed": "red",
    "rolling-back": "red",
    "paused": "yellow",
}


def lines(document: Json, now: datetime, *, colour: bool, unicode: bool = True) -> list[str]:
    """Return the tree; without `unicode`, in plain characters."""
    made = list(_all(document, now, colour=colour))
    return made if unicode else [_plain(line) for line in made]


def _plain(line: str) -> str:
    for fine, rough in _LINES:
        line = line.replace(fine, rough)
    return line.translate(_PLAIN)


def _all(document: Json, now: datetime, *, colour: bool) -> Iterator[str]:
    status = look(document, "status") or {}
    yield _head(document, now, colour=colour)
    yield from _branches([_wave(wave, status) for wave in look_list(status, "waves")])
    for label, words in _foot(status, now):
        yield f"  {label + ':':<10} {clean(words)}"
    for each in look_list(status, "commands"):
        told = f"{clean(shown(look(each, 'does')))}:"
        yield f"  {told:<34} {clean(shown(look(each, 'command')))}"


def headline(document: Json) -> str:
    """Return in one line where a rollout stands."""
    status = look(document, "status") or {}
    phase = shown(look(status, "phase"))
    words = [phase]
    if pause := look(status, "pause"):
        words = [f"{phase} ({pause})"]
    if not look(status, "over") and look(status, "of_waves"):
        words.append(f"wave {look(status, 'wave')} of {look(status, 'of_waves')}")
        words.append(f"step {look(status, 'step')} of {look(status, 'of_steps')}")
    return ", ".join(words)


def _head(document: Json, now: datetime, *, colour: bool) -> str:
    status = look(document, "status") or {}
    told = headline(document)
    if shade := colour and _PHASES.get(shown(look(status, "phase"))):
        told = click.style(told, fg=shade)
    begun = parse_time(look(document, "metadata", "createdAt"))
    end = parse_time(look(status, "ended_at")) or now
    took = f"   {duration((end - begun).total_seconds())}" if begun else ""
    model = clean(shown(look(document, "spec", "model")))
    versions = f"{shown(look(status, 'stable'))} → {shown(look(status, 'canary'))}"
    return f"rollout/{clean(name_of(document))}   {model} {versions}   {told}{took}"


def _foot(status: Json, now: datetime) -> Iterator[tuple[str, str]]:
    if reason := look(status, "reason"):
        yield "now", shown(reason)
    if words := look(status, "verdict", "words"):
        yield "verdict", _told(look(status, "verdict"))
    if words := look(status, "next"):
        at = parse_time(look(status, "next_at"))
        left_s = (at - now).total_seconds() if at else 0.0
        yield "next", f"{words} (in {duration(left_s)} at the earliest)" if left_s > 0 else words


# ------------------------------------------------------------ branches

Branch = tuple[str, list[tuple[str, list[str]]]]


def _wave(wave: Json, status: Json) -> Branch:
    state = shown(look(wave, "state"))
    stable = shown(look(status, "stable"))
    words = [_WORDS.get(state, state).format(stable=stable)]
    if look(wave, "approval") and state in ("waiting", "next", "now"):
        by = look(wave, "approved_by")
        words.append(f"approved by {by}" if by else "needs an approval")
    share = _share(look(wave, "weight"))
    told = clean(", ".join(word for word in words if word))
    head = f"{_MARKS.get(state, '?')} wave {shown(look(wave, 'number')):<2} {share:>6}  {told}"
    show = state not in ("waiting", "back")
    return head.rstrip(), [_region(each, clusters=show) for each in look_list(wave, "regions")]


def _region(region: Json, *, clusters: bool) -> tuple[str, list[str]]:
    verdict = ""
    if words := look(region, "verdict", "words"):
        verdict = _told(look(region, "verdict"))
    elif words := look(region, "so_far"):
        verdict = f"so far: {words}"
    name = clean(shown(look(region, "region")))
    head = f"{name:<16} {_share(look(region, 'weight')):>6}  {clean(verdict)}".rstrip()
    inside = look_list(region, "clusters")
    if not clusters:
        count = f"{len(inside)} cluster{'s' if len(inside) != 1 else ''}"
        return f"{head}   ({count})" if inside else head, []
    return head, [_cluster(each) for each in inside]


def _cluster(cluster: Json) -> str:
    state, reason = shown(look(cluster, "state")), shown(look(cluster, "reason"))
    name = clean(shown(look(cluster, "cluster")))
    words = [f"{name:<18} {state or 'not there':<9}"]
    done, total = _number(cluster, "done_bytes"), _number(cluster, "total_bytes")
    if state and total and done < total:
        words.append(f"{_bar(done / total)} {100 * done / total:3.0f} %")
        if rate := _number(cluster, "bytes_per_second"):
            words.append(f"{size(int(rate))}/s")
        if eta_s := _number(cluster, "eta_s"):
            words.append(f"{duration(eta_s)} left")
    if replicas := _number(cluster, "replicas"):
        words.append(f"{replicas:.0f} replica{'s' if replicas != 1 else ''}")
    if inputs := look(cluster, "golden", "inputs"):
        wrong = look(cluster, "golden", "wrong")
        words.append(f"{inputs} golden inputs, {wrong} wrong")
    return clean("  ".join([*words, reason]))


def _told(verdict: object) -> str:
    """Return a verdict with its outcome before it, once."""
    outcome, words = shown(look(verdict, "outcome")), shown(look(verdict, "words"))
    return words if words.startswith(f"{outcome}:") else f"{outcome}: {words}"


def _number(values: Json, key: str) -> float:
    value = look(values, key)
    return float(value) if isinstance(value, int | float) else 0.0


def _share(value: object) -> str:
    return f"{value:g} %" if isinstance(value, int | float) else ""


def _bar(share: float) -> str:
    full = min(int(share * _BAR), _BAR)
    return "▇" * full + "░" * (_BAR - full)


def _branches(waves: Iterable[Branch]) -> Iterator[str]:
    for last, (head, regions) in _marked(list(waves)):
        yield f"{'└─ ' if last else '├─ '}{head}"
        stem = "   " if last else "│  "
        for end, (region, clusters) in _marked(regions):
            yield f"{stem}{'└─ ' if end else '├─ '}{region}"
            inner = f"{stem}{'   ' if end else '│  '}"
            for tip, cluster in _marked(clusters):
                yield f"{inner}{'└─ ' if tip else '├─ '}{cluster}"


def _marked(items: list[T]) -> Iterator[tuple[bool, T]]:
    """Yield each with whether it is the last."""
    for index, item in enumerate(items):
        yield index == len(items) - 1, item
