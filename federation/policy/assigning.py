"""Gives clusters their new assignments, with a sentence on what became another.

Input: the Step, a cluster's record and the versions of the models that change there. Output: its
record, its Assignment and an entry in the audit trail, in the Step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from federation.contract.types import AssignedVersion, Assignment
from federation.policy.events import Assign
from federation.policy.records import ClusterRecord
from federation.policy.standing import model_span
from federation.policy.state import Step

Versions = tuple[AssignedVersion, ...]
ByModel = Mapping[str, Versions]


def assign(step: Step, record: ClusterRecord, changes: ByModel) -> None:
    """Give a cluster other versions of some models; those of the others stay."""
    versions = record.assignment.versions
    for model, new in changes.items():
        first, last = model_span(versions, model)
        versions = (*versions[:first], *new, *versions[last:])
    name = record.meta.name
    generation = record.assignment.generation + 1
    assignment = Assignment(cluster=name, generation=generation, versions=versions)
    step.put("Cluster", replace(record, meta=step.next_meta(record.meta), assignment=assignment))
    step.emit(Assign(assignment=assignment))
    step.audit("Cluster", name, "AssignmentChanged", _words(name, versions, changes))


def kept(new: Versions, old: Versions) -> Versions:
    """Return the new versions; those that are as they were stay the same objects, so that who
    compares an assignment with the last one sees at a glance what changed."""
    known = {v.version: v for v in old}
    return tuple(known[v.version] if known.get(v.version) == v else v for v in new)


def _words(name: str, versions: Versions, changes: ByModel) -> str:
    new = [v for each in changes.values() for v in each]
    others = len(versions) - len(new)
    served = _listed(v for v in new if not v.stage_only)
    ready = _listed(v for v in new if v.stage_only)
    gone = [model for model, each in changes.items() if not each] if others or new else []
    told = [*served, *(f"nothing of {model}" for model in gone)]
    message = f"cluster {name!r} shall serve {', '.join(told) or 'nothing'}"
    if ready:
        message += f" and have ready {', '.join(ready)}"
    if others:
        message += f"; {others} other {'versions stay' if others > 1 else 'version stays'}"
    return f"{message}."


def _listed(versions: Iterable[AssignedVersion]) -> list[str]:
    return [f"{v.model} {v.version}" for v in versions]
