from datetime import UTC, datetime

from federation.cli.cells_rollout import (
    canary_weights,
    deployment_rollout,
    freeze,
    from_to,
    rollout_reason,
    wave_of,
)
from tests.federation.cli.fake_rollouts import status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_rollout_in_a_row() -> None:
    document = {"status": status()}
    assert from_to(document, NOW) == "1 -> 2"
    assert wave_of(document, NOW) == "1/2"
    assert canary_weights(document, NOW) == "eu=5%"
    assert rollout_reason(document, NOW) == "too few requests"
    over = {"status": status("failed", reason="no room")}
    assert (wave_of(over, NOW), rollout_reason(over, NOW)) == ("", "no room")


def test_what_rollouts_did_to_a_deployment() -> None:
    assert (
        deployment_rollout({"status": {"rollout": "m-2", "rejected": 0}}) == "rollout m-2 goes on"
    )
    assert deployment_rollout({"status": {"rejected": 2}}) == "version 2 was rolled back"
    assert deployment_rollout({"status": {"rollout": "", "rejected": 0}}) == ""


def test_when_a_region_is_frozen() -> None:
    windows = [{"start": "16:00", "end": "00:00", "days": ["fri"]}, {"start": "1", "end": "2"}]
    assert freeze({"spec": {"freeze": windows}}, NOW) == "fri 16:00-00:00; 1-2"
