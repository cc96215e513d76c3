"""What makes sense in the settings of a cluster's transfers, and what to make of measured numbers.

Input: a SyncSpec that somebody wrote; SyncProgress and Disk as an agent sent them. Output: the
same, or Invalid with a remedy; measured numbers are brought into bounds instead, because a peer's
slip in a number that is only shown must not end its stream.
"""

import math
import re
from dataclasses import replace
from zoneinfo import ZoneInfo

from federation.contract.errors import Invalid
from federation.contract.sync import Day, Disk, SyncProgress, SyncSpec, SyncWindow

MAX_WINDOWS = 64
MAX_MBYTES_PER_SECOND = 1e6  # 8 Tbit/s
MAX_BUDGET_GIB = 1e7
MAX_BYTES = 1 << 60
MAX_ETA_S = 1e9
MAX_WORDS = 256
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")


def check_sync(spec: SyncSpec) -> SyncSpec:
    """Return the settings if they make sense, whatever zones this machine knows; raises Invalid."""
    _check_amount("max_mbytes_per_second", spec.max_mbytes_per_second, MAX_MBYTES_PER_SECOND)
    peers = spec.peer_max_mbytes_per_second
    _check_amount("peer_max_mbytes_per_second", peers, MAX_MBYTES_PER_SECOND)
    _check_amount("disk_budget_gib", spec.disk_budget_gib, MAX_BUDGET_GIB)
    if len(spec.windows) > MAX_WINDOWS:
        raise Invalid(f"a cluster has at most {MAX_WINDOWS} windows, not {len(spec.windows)}.")
    for window in spec.windows:
        _check_window(window)
    if not _ZONE.fullmatch(spec.time_zone):
        raise _unknown_zone(spec.time_zone)
    return spec


def check_time_zone(name: str) -> str:
    """Return the name of a time zone if this machine knows it (reads files); raises Invalid."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise _unknown_zone(name) from None
    return name


def _unknown_zone(name: str) -> Invalid:
    return Invalid(
        f"{name[:64]!r} is not a time zone.", hint='Use an IANA name, like "Europe/Dublin".'
    )


def _check_amount(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # False for NaN
        raise Invalid(f"{name} must be 0 to {most:g}, not {value:g}.")


def _check_window(window: SyncWindow) -> None:
    for name, clock in (("start", window.start), ("end", window.end)):
        if not _CLOCK.fullmatch(clock):
            raise Invalid(f"the {name} of a window is a time like 22:00, not {clock[:32]!r}.")
    rate = window.max_mbytes_per_second
    _check_amount("a window's max_mbytes_per_second", rate, MAX_MBYTES_PER_SECOND)
    if len(set(window.days)) != len(window.days):
        raise Invalid("a window names a day twice.")


def parse_window(text: str) -> SyncWindow:
    """Read "mon-fri 22:00-06:00", "22:00-06:00" or "sat,sun 00:00-00:00 20"; raises Invalid.

    The last number, if any, is the cap inside of the window, in 10^6 bytes a second.
    """
    words = text.lower().split()
    days: tuple[Day, ...] = ()
    if words and not words[0][:1].isdigit():
        days = _days(words.pop(0), text)
    cap = 0.0
    if len(words) == 2:
        cap = _number(words.pop(), text)
    start, dash, end = words[0].partition("-") if len(words) == 1 else ("", "", "")
    if not dash:
        raise _no_window(text)
    window = SyncWindow(start=start, end=end, days=days, max_mbytes_per_second=cap)
    _check_window(window)
    return window


def _days(words: str, text: str) -> tuple[Day, ...]:
    week, found = list(Day), []
    for part in words.split(","):
        first, dash, last = part.partition("-")
        try:
            begin, end = week.index(Day(first)), week.index(Day(last if dash else first))
        except ValueError:
            raise _no_window(text) from None
        # "sat-mon" goes over the end of the week
        found += [week[(begin + n) % 7] for n in range((end - begin) % 7 + 1)]
    return tuple(day for day in week if day in found)


def _number(word: str, text: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise _no_window(text) from None


def _no_window(text: str) -> Invalid:
    return Invalid(
        f"{text[:64]!r} is not a window.",
        hint='Write it like "mon-fri 22:00-06:00", or "22:00-06:00 20" with a cap of 20 MB/s.',
    )


def window_text(window: SyncWindow) -> str:
    """Return a window as `parse_window` reads it."""
    days = f"{','.join(day.value for day in window.days)} " if window.days else ""
    cap = f" {window.max_mbytes_per_second:g}" if window.max_mbytes_per_second else ""
    return f"{days}{window.start}-{window.end}{cap}"


# ------------------------------------------------------------ measured numbers


def bounded_progress(told: SyncProgress) -> SyncProgress:
    """Return what an agent told of a transfer, with every number and text within bounds."""
    total = _bytes(told.total_bytes)
    return replace(
        told,
        total_bytes=total,
        reused_bytes=_bytes(told.reused_bytes),
        from_origin_bytes=_bytes(told.from_origin_bytes),
        from_peers_bytes=_bytes(told.from_peers_bytes),
        done_bytes=min(_bytes(told.done_bytes), total),
        bytes_per_second=_amount(told.bytes_per_second, MAX_BYTES),
        eta_s=_amount(told.eta_s, MAX_ETA_S),
        waiting=told.waiting[:MAX_WORDS],
    )


def bounded_disk(told: Disk) -> Disk:
    """Return what an agent told of its disk, with every number within bounds."""
    if all(0 <= n <= MAX_BYTES for n in (told.used_bytes, told.free_bytes, told.budget_bytes)):
        return told
    return Disk(
        used_bytes=_bytes(told.used_bytes),
        free_bytes=_bytes(told.free_bytes),
        budget_bytes=_bytes(told.budget_bytes),
    )


def _bytes(value: int) -> int:
    return min(max(value, 0), MAX_BYTES)


def _amount(value: float, most: float) -> float:
    return min(max(value, 0.0), most) if math.isfinite(value) else 0.0
