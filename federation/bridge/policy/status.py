"""What a custom resource's status says: what the control plane tells, and how far the bridge came.

Input: a Custom, the control plane's document, what is in the way, the time. Output: the status to
write. A moment is changed only when the state of its condition does, so that nothing is written
while nothing happens. https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

import re
from dataclasses import dataclass
from datetime import datetime

from federation.bridge.policy.custom import CLUSTER, Custom
from federation.cli.documents import Json, look, look_list, look_map

MAX_CANNOT = 20  # obstacles that are listed
MAX_MESSAGE = 1_000  # characters
APPLIED = "Applied"
_RUNNING = re.compile(r" for \d+ s$")  # a time that runs is no news


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the control plane is not as the custom resource wants it: a word, and a sentence.

    `silent`: nobody answered, so nothing is known of what the control plane has now.
    """

    reason: str
    message: str
    silent: bool = False


def status_of(
    custom: Custom,
    live: Json | None,
    trouble: Trouble | None,
    *,
    now: datetime,
    claim: str = "",
    created_at: str = "",
) -> Json:
    """Return the whole status. `live` is None where there is no object, or none of ours."""
    status: Json = {"observedGeneration": custom.generation}
    if claim:
        status["claim"] = claim
    if created_at:
        status["createdAt"] = created_at
    if live is not None:
        status |= _TELL.get(custom.bridged.kind.name, _deployment)(live)
    elif trouble is not None and trouble.silent:  # what was known last
        ours = ("observedGeneration", "claim", "createdAt", "conditions")
        status |= {key: value for key, value in custom.status.items() if key not in ours}
    told = [_synced(trouble), _ready(live, trouble)]
    if custom.bridged is CLUSTER:
        told.append(_joined(live, trouble))
    status["conditions"] = [_stamped(custom, each, now) for each in told]
    return status


def _deployment(live: Json) -> Json:
    status = look_map(live, "status")
    found: Json = {
        "version": _whole(status, "version"),
        "routedVersion": _whole(status, "routed_version"),
        "warm": _whole(status, "warm"),
        "wanted": _whole(status, "wanted"),
    }
    obstacles = [each for each in look_list(status, "cannot") if isinstance(each, dict)]
    if obstacles:
        found["cannot"] = [
            {"cluster": str(each.get("cluster")), "reason": _cut(str(each.get("reason")))}
            for each in obstacles[:MAX_CANNOT]
        ]
    return found


def _cluster(live: Json) -> Json:
    status = look_map(live, "status")
    return {
        "scheduling": str(status.get("scheduling") or ""),
        "engine": str(look(status, "engine", "kind") or ""),
        "gpus": _whole(status, "gpus"),
        "warm": _whole(look_map(status, "models"), "warm"),
        "assigned": _whole(look_map(status, "models"), "assigned"),
    }


def _rollout(live: Json) -> Json:
    status = look_map(live, "status")
    shares = [
        each for each in look_map(status, "weights").values() if isinstance(each, int | float)
    ]
    return {
        "phase": str(status.get("phase") or ""),
        "stable": _whole(status, "stable"),
        "canary": _whole(status, "canary"),
        "wave": f"{_whole(status, 'wave')}/{_whole(status, 'of_waves')}",
        "weight": max(shares, default=0),
        "verdict": _cut(str(look(status, "verdict", "words") or "")),
        "next": _cut(str(status.get("next") or "")),
    }


_TELL = {"Cluster": _cluster, "Rollout": _rollout}


def _whole(status: Json, key: str) -> int:
    value = status.get(key)
    return value if isinstance(value, int) else 0


# ------------------------------------------------------------ conditions


def _synced(trouble: Trouble | None) -> Json:
    if trouble is None:
        return _condition("Synced", "True", APPLIED, "the control plane has this spec")
    return _condition("Synced", "False", trouble.reason, trouble.message)


def _ready(live: Json | None, trouble: Trouble | None) -> Json:
    if live is None:
        return _not_known("Ready", trouble)
    phase = look(live, "status", "phase")
    if isinstance(phase, str):  # of a rollout, which is ready when its version serves everywhere
        words = str(look(live, "status", "reason") or "")
        reason = "".join(word.capitalize() for word in phase.split("-"))
        return _condition("Ready", str(phase == "promoted"), reason, words)
    ready = look(live, "status", "ready") is True
    words = _RUNNING.sub("", str(look(live, "status", "reason") or ""))
    return _condition("Ready", str(ready), "Ready" if ready else "NotReady", words)


def _joined(live: Json | None, trouble: Trouble | None) -> Json:
    if live is None:
        return _not_known("Joined", trouble)
    for each in look_list(live, "status", "conditions"):
        if look(each, "type") == "Joined":
            joined = look(each, "status") == "True"
            words = str(look(each, "message") or "")
            return _condition("Joined", str(joined), str(look(each, "reason")), words)
    return _condition("Joined", "Unknown", "NotTold", "the control plane does not tell")


def _not_known(kind: str, trouble: Trouble | None) -> Json:
    if trouble is not None and trouble.silent:
        return _condition(kind, "Unknown", trouble.reason, trouble.message)
    reason = trouble.reason if trouble else "Creating"
    return _condition(kind, "False", reason, trouble.message if trouble else "it is being made")


def _condition(kind: str, status: str, reason: str, message: str) -> Json:
    return {"type": kind, "status": status, "reason": reason, "message": _cut(message)}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."


def _stamped(custom: Custom, condition: Json, now: datetime) -> Json:
    """Return it with the generation that it is about, and since when its status is as it is."""
    since = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for old in look_list(custom.status, "conditions"):
        if look(old, "type") == condition["type"] and look(old, "status") == condition["status"]:
            since = str(look(old, "lastTransitionTime") or since)
    return {**condition, "observedGeneration": custom.generation, "lastTransitionTime": since}
