"""When a wish means another version than before: whether a rollout goes there.

Input: a deployment and the version that its spec means now. Output: whether that was seen to: a
rollout begins or ends, or nothing has to happen. Otherwise the change is made everywhere at once.
"""

from dataclasses import replace

from federation.contract.errors import FederationError
from federation.contract.rollout import RolloutSpec
from federation.policy.records import DeploymentRecord
from federation.policy.rollouts.ongoing import newest, send_back
from federation.policy.rollouts.records import Phase
from federation.policy.rollouts.starting import begin, prepared, refuse, supersede
from federation.policy.rollouts.table import Turn
from federation.policy.state import Step


def follows(step: Step, record: DeploymentRecord, wished: int) -> bool:
    """Return whether nothing is left to do about a wish; rollouts begin and end here."""
    model = record.spec.model
    if record.rejected:
        if wished == record.rejected:
            return True
        meta = step.next_meta(record.meta)
        record = replace(record, meta=meta, rejected=0)
        step.put("Deployment", record)
    going = newest(step.state, model)
    if going is not None and going.phase is not Phase.ROLLING_BACK:
        if wished == going.canary:
            return True
        if wished == record.target:
            if not going.undo:
                send_back(step, going, Turn.ABORTED, f"version {wished} is wished for again")
            return True
    if wished == record.target:
        return True
    if record.spec.rollout is None or not record.target:
        supersede(step, model, f"version {wished} is wished for everywhere at once")
        return False
    _begin(step, record, RolloutSpec(model=model, version=wished, strategy=record.spec.rollout))
    return True


def _begin(step: Step, record: DeploymentRecord, spec: RolloutSpec) -> None:
    """Begin by itself; what must not be is written down, and not tried again."""
    try:
        start = prepared(step.state, spec)
    except FederationError as refusal:
        refuse(step, spec, refusal.sentence())
        held = step.state.deployments[record.meta.name]
        meta, version = step.next_meta(held.meta), int(spec.version)
        step.put("Deployment", replace(held, meta=meta, rejected=version))
        return
    begin(step, start, why="the deployment means another version now")
