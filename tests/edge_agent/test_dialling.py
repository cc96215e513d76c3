"""How a stream is opened, and why it ended; `test_link` has the rest of a stream's life."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.dialling import Hello, NoStream, dial
from edge_agent.identity import Identity
from federation.contract.errors import Conflict
from federation.contract.spiffe import PeerRole
from federation.contract.types import EngineKind
from federation.runtime.clock import SystemClock
from federation.trust.calls import Contact
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import Membership
from tests.edge_agent.link_rig import ControlPlane
from tests.pki import credentials_for, make_authority


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(make_authority(tmp_path))
    await plane.start()
    yield plane
    await plane.stop()


def identity(plane: ControlPlane) -> Identity:
    credentials = credentials_for(plane.authority, PeerRole.CLUSTER, "c")
    contact = Contact(url="https://127.0.0.1:1")
    enrolment = Enrolment(credentials, contact, role=PeerRole.CLUSTER, name="c")
    membership = Membership(enrolment, clock=SystemClock(), dice=random.Random(1))
    return Identity(credentials=credentials, membership=membership)


def hello(plane: ControlPlane) -> Hello:
    return Hello(
        control_plane=f"127.0.0.1:{plane.port}", cluster="c", url="", engine=EngineKind.STATIC
    )


async def test_an_older_control_plane_takes_no_compact_reports(plane: ControlPlane) -> None:
    stream = await dial(hello(plane), identity(plane), SystemClock())
    assert (stream.welcome.epoch, stream.welcome.report_interval_s, stream.compact) == (
        *(1, 0.2),
        False,
    )
    await stream.close()


async def test_a_refusal_says_why(plane: ControlPlane) -> None:
    plane.refusal = Conflict("cluster 'c' is registered otherwise.")
    with pytest.raises(NoStream) as refused:
        await dial(hello(plane), identity(plane), SystemClock())
    assert "registered otherwise" in refused.value.ending.reason
