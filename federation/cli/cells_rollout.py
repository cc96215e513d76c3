"""The cells of tables that tell of rollouts and freezes.

Input: documents of rollouts and regions. Output: short texts.
"""

from datetime import datetime

from federation.cli.cells import shown
from federation.cli.documents import Json, look, look_list, look_map


def from_to(document: Json, _now: datetime) -> str:
    """Show the stable version and the canary."""
    status = look_map(document, "status")
    return f"{shown(status.get('stable'))} -> {shown(status.get('canary'))}"


def wave_of(document: Json, _now: datetime) -> str:
    """Show which wave of how many, while it goes on."""
    status = look_map(document, "status")
    return (
        "" if status.get("over") else f"{shown(status.get('wave'))}/{shown(status.get('of_waves'))}"
    )


def canary_weights(document: Json, _now: datetime) -> str:
    """Show the canary's share of traffic by region."""
    weights = look_map(document, "status", "weights")
    return ",".join(f"{region}={percent:g}%" for region, percent in weights.items())


def rollout_reason(document: Json, _now: datetime) -> str:
    """Show why it is as it is, else its verdict."""
    verdict = look(document, "status", "verdict", "words")
    return shown(look(document, "status", "reason") or verdict)


def freeze(document: Json, _now: datetime) -> str:
    """Show when a region is frozen."""
    return "; ".join(
        f"{','.join(look_list(each, 'days'))} {look(each, 'start')}-{look(each, 'end')}".strip()
        for each in look_list(document, "spec", "freeze")
    )


def deployment_rollout(document: Json) -> str:
    """Return what rollouts did to a deployment, in words; "" = nothing to tell."""
    if going := look(document, "status", "rollout"):
        return f"rollout {going} goes on"
    rejected = look(document, "status", "rejected")
    return f"version {rejected} was rolled back" if rejected else ""
