from datetime import UTC, datetime

from federation.api.documents_rollout import RolloutStatus
from federation.contract.rollout import GoldenResult
from federation.contract.sync import SyncProgress
from federation.contract.types import ObservedVersion, VersionState
from federation.policy.analysis.verdict import Outcome
from federation.policy.rollouts.records import Phase, VerdictRecord
from federation.policy.rollouts.rollout_view import rollout_status
from tests.federation.api.test_documents import check
from tests.federation.policy.rollouts.test_next_words import AT, at
from tests.federation.policy.world import World


def test_the_types_tell_what_the_view_shows() -> None:
    world = World()
    world.cluster("eu-1", "eu")
    seen = ObservedVersion(
        model="m",
        version=2,
        digest="d",
        state=VersionState.PENDING,
        sync=SyncProgress(total_bytes=10, done_bytes=1),
        golden=GoldenResult(inputs=2, wrong=0),
    )
    world.report("eu-1", versions=(seen,))
    verdict = VerdictRecord(outcome=Outcome.PASSED, words="fine", at=AT)
    for phase in Phase:
        record = at(phase, verdicts=(verdict,), ended_at=datetime(2026, 1, 2, tzinfo=UTC))
        check(rollout_status(world.state, record, AT), RolloutStatus)
