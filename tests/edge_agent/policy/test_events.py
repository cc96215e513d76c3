"""Jobs name what they are about."""

from dataclasses import FrozenInstanceError

import pytest

from edge_agent.policy.events import Job, Task


def test_a_job_names_its_version_and_never_changes() -> None:
    job = Job(id=1, task=Task.LOAD, model="m", version=2)
    assert job.key == ("m", 2)
    with pytest.raises(FrozenInstanceError):
        job.id = 2  # type: ignore[misc]
