"""HTTP to the clusters' gateways: whom they must prove to be, and giving up on a cluster.

Input: requests from `proxy` and `probe`; the credentials of this router, and whom they say to trust
from now on. Output: answers as streams, or ForwardErrors. Each cluster has a pool of its own, whose
connections prove to be that cluster and no other. Without credentials (a router that routes by a
file) connections are plain, or https as browsers do it.

The mapping of addresses (`--connect-to`) is applied here and nowhere else.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

from federation.contract.errors import Invalid
from federation.contract.types import Endpoint
from federation.relay.forward import (
    Channel,
    Deadlines,
    Exchange,
    Forwarder,
    ForwardError,
    Outgoing,
    Sending,
    Upstream,
)
from federation.relay.transport import Dialler
from federation.runtime.clock import Clock, SystemClock
from federation.trust.credentials import Credentials
from router.upstream.identity import Identity
from router.upstream.reverse import ReversePool

log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 3.0


class GivenUp(ForwardError):
    """The cluster was ejected while the request waited for its answer."""


class Upstreams:
    """The gateways of all clusters."""

    def __init__(
        self,
        connect_to: Sequence[str] = (),
        *,
        credentials: Credentials | None = None,
        reverse: ReversePool | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._mapping = dict(_parse_mapping(entry) for entry in connect_to)
        self._identity = Identity(credentials, clock or SystemClock()) if credentials else None
        self._reverse = reverse
        self._reversed: frozenset[str] = frozenset()  # clusters that dial us
        self._forwarders: dict[str, Forwarder] = {}
        self._leaving: list[Forwarder] = []  # of clusters that are gone, until all of it ended
        self.on_give_up: list[Callable[[str], int]] = []  # other protocols than HTTP/1.1
        self._waiting: dict[str, set[Exchange]] = {}  # by cluster, what has no answer yet
        self._bases: dict[tuple[str, str], str] = {}
        self._trust_domain = self._identity.trust_domain if self._identity else ""
        if credentials:
            credentials.on_change.append(self._credentials_changed)

    def __repr__(self) -> str:
        waiting = {name: len(those) for name, those in self._waiting.items() if those}
        pools = sorted(self._forwarders)
        return f"Upstreams(pools={pools}, mapping={self._mapping}, waiting={waiting})"

    def base(self, cluster: str, url: str) -> str:
        """Return the URL to send a cluster's requests to; `url` is advertised, "" = reversed."""
        found = self._bases.get((cluster, url))
        if found is None:
            found = self._bases[cluster, url] = self._base(cluster, url)
        return found

    def _base(self, cluster: str, url: str) -> str:
        if not url:
            return f"https://{self._identity.name_of(cluster) if self._identity else cluster}"
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        other = self._mapping.get(f"{parts.hostname}:{port}")
        path = parts.path.rstrip("/")
        return urlunsplit((parts.scheme, other or parts.netloc.rpartition("@")[2], path, "", ""))

    def send(
        self, cluster: str, outgoing: Outgoing, *, deadlines: Deadlines, probe: bool = False
    ) -> Sending:
        """Send a request to a cluster and hold its answer: an async context; raises ForwardError.

        Giving up on the cluster's requests does not give up on its probes.
        """
        return Sending(self.start(cluster, outgoing, deadlines, probe=probe))

    async def start(
        self, cluster: str, outgoing: Outgoing, deadlines: Deadlines, *, probe: bool = False
    ) -> Upstream:
        """Send a request to a cluster and return its answer when the head has come; the caller
        closes it. Raises ForwardError."""
        waiting = None if probe else self.waiting(cluster)
        forwarder = self._forwarders.get(cluster) or self._forwarder(cluster)
        return await forwarder.start(outgoing, deadlines, probe=probe, waiting=waiting)

    def waiting(self, cluster: str) -> set[Exchange]:
        """Return the exchanges that wait for a first byte of a cluster, to be added to: `give_up`
        ends them."""
        found = self._waiting.get(cluster)
        if found is None:
            found = self._waiting[cluster] = set()
        return found

    def channel(self, cluster: str, base: str) -> Channel:
        """Return the connections to a cluster for requests without a coroutine, as long as it
        `is_current`; raises ConnectFailed. `base` is as `base` returns it."""
        return self._forwarder(cluster).channel(base)

    def dialler(self, cluster: str, url: str) -> Dialler:
        """Return what makes connections to a cluster for other protocols than HTTP/1.1; raises
        ConnectFailed. To be asked anew for each connection."""
        return self._forwarder(cluster).dialler(self.base(cluster, url))

    def give_up(self, cluster: str) -> int:
        """End all requests that wait for a first byte of this cluster; return how many. Answers
        that have begun may show within SIGN_OF_LIFE_S that they go on."""
        those = self.waiting(cluster)
        waiting = list(those)
        those.clear()
        for upstream in waiting:
            upstream.give_up(GivenUp("it stopped answering probes"))
        if (forwarder := self._forwarders.get(cluster)) is not None:
            forwarder.hurry(SIGN_OF_LIFE_S)
        return len(waiting) + sum(also(cluster) for also in self.on_give_up)

    def follow(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Take note of a new table: connections of clusters that left it, or that now connect the
        other way round, are closed as soon as nothing runs on them."""
        self._bases.clear()
        reversed_ = frozenset(name for name, endpoint in endpoints.items() if not endpoint.url)
        before, self._reversed = self._reversed, reversed_
        for cluster in list(self._forwarders):
            if cluster not in endpoints or cluster in before ^ reversed_:
                self._leave(cluster)
        for cluster in before - reversed_:
            if self._reverse:
                self._reverse.drop(cluster)

    async def close(self) -> None:
        """Close all connections."""
        forwarders = [*self._forwarders.values(), *self._leaving]
        self._forwarders.clear()
        self._leaving.clear()
        for forwarder in forwarders:
            await forwarder.close()

    def _leave(self, cluster: str) -> None:
        self._leaving = [forwarder for forwarder in self._leaving if forwarder.running]
        forwarder = self._forwarders.pop(cluster)
        forwarder.retire()
        self._leaving.append(forwarder)

    def _forwarder(self, cluster: str) -> Forwarder:
        if cluster not in self._forwarders:
            self._forwarders[cluster] = self._make(cluster)
        return self._forwarders[cluster]

    def _make(self, cluster: str) -> Forwarder:
        if self._identity is None:
            return Forwarder()
        name, vet = self._identity.name_of(cluster), self._identity.problem
        if cluster in self._reversed and self._reverse:
            reverse = self._reverse
            return Forwarder(vet=vet, stock=lambda: reverse.stock_for(cluster))
        return Forwarder(tls=self._identity.context, server_hostname=name, vet=vet)

    def _credentials_changed(self) -> None:
        """Break what runs to revoked clusters; after joining elsewhere, all names are others."""
        if self._identity is None:
            return
        for cluster, forwarder in self._forwarders.items():
            if broken := forwarder.sever(self._identity.revoked):
                log.warning("cluster %s is revoked: %d connections broken", cluster, broken)
        for forwarder in self._leaving:
            forwarder.sever(self._identity.revoked)
        before, self._trust_domain = self._trust_domain, self._identity.trust_domain
        if self._trust_domain != before:
            self._bases.clear()
            for cluster in list(self._forwarders):
                self._leave(cluster)


def _parse_mapping(entry: str) -> tuple[str, str]:
    advertised, separator, other = entry.partition("=")
    if not (separator and _is_address(advertised) and _is_address(other)):
        raise Invalid(
            f"--connect-to {entry!r} is not understood.",
            hint="Use HOST:PORT=HOST:PORT: what is advertised, then what to dial instead.",
        )
    return advertised.lower(), other


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
