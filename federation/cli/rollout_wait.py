"""Waiting for the end of a rollout, and what its end means for the exit code.

Input: a rollout's document, read again and again. Output: nothing if it was promoted; RolloutFailed
(exit code 1) if it went back, WaitNotMet (7) if it still goes on when time is up.
"""

import sys

import click

from federation.cli.client import ApiClient
from federation.cli.documents import Json, look
from federation.cli.exits import WaitNotMet
from federation.cli.output import clean, note
from federation.cli.rollout_find import KIND
from federation.cli.rollout_follow import readings
from federation.cli.rollout_tree import headline
from federation.contract.errors import FederationError
from federation.runtime.clock import SystemClock

WAITING = click.option(
    "--wait",
    is_flag=True,
    help="Wait for its end: exit code 0 promoted, 1 rolled back or failed, 7 not over in time.",
)


class RolloutFailed(FederationError):
    """A rollout ended without being promoted."""

    reason = "rollout-failed"


def wait_until_over(client: ApiClient, name: str, *, timeout_s: float) -> Json:
    """Return the document of the rollout once it was promoted.

    Raises RolloutFailed if it went back or failed, WaitNotMet after `timeout_s` seconds. On a
    terminal, stderr tells each new phase.
    """
    clock = SystemClock()
    until_s, told = clock.monotonic_s() + timeout_s, ""
    for document in readings(lambda: client.get("api", "v1", KIND.plural, name)):
        if look(document, "status", "over"):
            check_end(document, name)
            return document
        words = clean(f"{headline(document)}: {look(document, 'status', 'next') or ''}")
        if words != told and sys.stderr.isatty():
            note(words)
        told = words
        if clock.monotonic_s() >= until_s:
            break
    raise WaitNotMet(
        f"rollout/{name} is not over after {timeout_s:g} s: {told}.",
        hint=f"Watch it with: fed rollout get {name} -w",
    )


def check_end(document: Json, name: str) -> None:
    """Raise RolloutFailed if a rollout that is over was not promoted."""
    phase = look(document, "status", "phase")
    if phase == "promoted":
        note(f"rollout/{name} was promoted: version {look(document, 'status', 'canary')} serves")
        return
    why = look(document, "status", "reason") or look(document, "status", "verdict", "words")
    how = "failed" if phase == "failed" else "was rolled back"
    raise RolloutFailed(
        f"rollout/{name} {how}: {clean(str(why)).rstrip('.')}.",
        hint=f"See: fed rollout history {name}",
    )
