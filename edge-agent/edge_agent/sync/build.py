"""The sync side of an agent, put together.

Input: where it keeps things, who it is, where the control plane is. Output: a Syncer, and the parts
that the gateway needs to share packages with other clusters.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from edge_agent.policy.releases import Publishers
from edge_agent.sync.bringing import Means
from edge_agent.sync.exchange import Exchange
from edge_agent.sync.lending import Lender
from edge_agent.sync.origin import Origin
from edge_agent.sync.peer_status import PeerStatuses
from edge_agent.sync.releases import ReleaseGate
from edge_agent.sync.scrubbing import Scrubbed, Scrubber
from edge_agent.sync.settings_file import SettingsFile
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.syncer import Parts, Syncer
from edge_agent.sync.throttle import Throttle
from edge_agent.sync.transfer import Transfers
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSide:
    """What the rest of the agent sees of it."""

    syncer: Syncer
    shelf: Shelf
    exchange: Exchange
    throttle: Throttle
    scrubber: Scrubber


def make_sync_side(  # noqa: PLR0913  # what it needs, each by name
    state_dir: Path,
    *,
    cluster: str,
    url: str,
    credentials: Credentials,
    clock: Clock,
    dice: random.Random,
    publishers: Publishers | None = None,
) -> SyncSide:
    """Return the parts, ready to be used; nothing is fetched before settings are known."""

    def release_keys() -> tuple[str, ...]:
        return credentials.trust.release_keys if credentials.trust else ()

    throttle, scrubbed = Throttle(clock=clock), Scrubbed()
    shelf = Shelf(state_dir, breath=throttle.breath)
    lender = Lender()
    exchange = Exchange(
        Means(
            me=cluster,
            carrier=Transfers(
                credentials, throttle, url=url, clock=clock, dice=dice, lender=lender
            ),
            statuses=PeerStatuses(credentials),
            clock=clock,
            dice=dice,
            is_closed=throttle.origin.is_closed,
            moved=lambda: (throttle.origin.total_bytes, throttle.peers.total_bytes),
            at_rest=lender.forget,
        )
    )
    syncer = Syncer(
        Parts(
            shelf=shelf,
            origin=Origin(url=url, credentials=credentials, throttle=throttle, clock=clock),
            gate=ReleaseGate(
                state_dir,
                trusted=release_keys,
                publishers=publishers or Publishers(),
                utc=clock.utc,
            ),
            throttle=throttle,
            exchange=exchange,
            settings=SettingsFile(state_dir),
            scrubbed=scrubbed,
        )
    )
    return SyncSide(
        syncer=syncer,
        shelf=shelf,
        exchange=exchange,
        throttle=throttle,
        scrubber=Scrubber(shelf, syncer, clock, scrubbed),
    )
