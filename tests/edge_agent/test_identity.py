"""Who the agent is, from its state directory."""

import random
from pathlib import Path

import pytest

from edge_agent.identity import IDENTITY_DIRECTORY, Identity, load_identity
from federation.contract.errors import Invalid
from federation.contract.spiffe import PeerRole
from federation.runtime.clock import SystemClock
from federation.trust.calls import Contact
from tests.pki import credentials_for, make_authority

NOWHERE = Contact(url="https://127.0.0.1:1")


def load(folder: Path, contact: Contact = NOWHERE) -> Identity:
    return load_identity(folder, "eu", contact, clock=SystemClock(), dice=random.Random(1))


def test_nothing_to_begin_with_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        load(tmp_path)
    assert "fed cluster register eu" in caught.value.hint
    pinned = Contact(url=NOWHERE.url, pin="sha256:" + "0" * 64, token_file=tmp_path / "token")
    assert not load(tmp_path, pinned).credentials.complete


def test_what_is_on_disk_is_enough(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    directory = tmp_path / IDENTITY_DIRECTORY
    credentials_for(authority, PeerRole.CLUSTER, "eu", directory=directory)
    first, second = load(tmp_path), load(tmp_path)
    assert first.credentials.complete
    assert first.credentials.require()[0].facts.id.name == "eu"
    assert first.instance != second.instance, "each run is another instance"


def test_the_identity_of_another_is_refused(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    directory = tmp_path / IDENTITY_DIRECTORY
    credentials_for(authority, PeerRole.CLUSTER, "us", directory=directory)
    with pytest.raises(Invalid, match="not of the cluster 'eu'"):
        load(tmp_path)


def test_a_broken_identity_is_told(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    directory = tmp_path / IDENTITY_DIRECTORY
    credentials_for(authority, PeerRole.CLUSTER, "eu", directory=directory)
    (directory / "trust.json").write_text("{")
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path)
