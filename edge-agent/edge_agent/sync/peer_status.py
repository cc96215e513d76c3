"""Asks other clusters what they have of a package.

Input: a peer's gateway and a digest. Output: its PeerStatus; the form in which it travels. Nothing
of it is believed beyond "ask there": every byte that follows is verified.
"""

import aiohttp
import msgspec

from edge_agent.policy.swarm_members import PeerStatus
from federation.contract.errors import FederationError, PermissionDenied, Unavailable
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.sync import SyncPeer
from federation.trust.credentials import Credentials

_MAX_BYTES = 4 << 20
_CONNECTIONS = 32
ASK_S = 2.0


def encode_status(status: PeerStatus) -> bytes:
    """Return a status as JSON."""
    return msgspec.json.encode(status)


def decode_status(data: bytes) -> PeerStatus:
    """Read the JSON form; raises Unavailable, for such a peer is as good as gone."""
    try:
        status = msgspec.json.decode(data, type=PeerStatus)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unavailable("its status is malformed.") from None
    rates = status.send_rate, status.origin_rate, status.receive_rate
    if min(status.age_s, status.received_bytes, *rates) < 0:
        raise Unavailable("its status has negative numbers.")
    return status


class PeerStatuses:
    """A client of other clusters' gateways. An answer has to be there within `ask_s`."""

    def __init__(self, credentials: Credentials, *, ask_s: float = ASK_S) -> None:
        self._credentials = credentials
        self._timeout = aiohttp.ClientTimeout(total=ask_s)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, peer: SyncPeer, digest: str) -> PeerStatus | None:
        """Return what a peer says, None if it does not know the package.

        Raises PermissionDenied if we are not on its list, Unavailable if it does not answer as it
        should.
        """
        try:
            return await self._ask(peer, digest)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"cluster {peer.cluster}: {error}.") from None
        except PermissionDenied:
            raise
        except FederationError as error:
            raise Unavailable(f"cluster {peer.cluster}: {error.message}") from None

    async def _ask(self, peer: SyncPeer, digest: str) -> PeerStatus | None:
        _, trust = self._credentials.require()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        async with self._session.get(
            f"{peer.url.rstrip('/')}/fed/v1/packages/{digest}",
            ssl=self._credentials.client_context(),
            server_hostname=PeerId(trust.trust_domain, PeerRole.CLUSTER, peer.cluster).dns_name,
            allow_redirects=False,
        ) as answer:
            if answer.status in (403, 404):
                await answer.read()
                if answer.status == 403:
                    raise PermissionDenied(f"cluster {peer.cluster} does not know this one.")
                return None
            if answer.status != 200:
                raise Unavailable(f"it answered with {answer.status}.")
            data = bytearray()
            async for block in answer.content.iter_any():
                data += block
                if len(data) > _MAX_BYTES:
                    raise Unavailable("its status is too long.")
            return decode_status(bytes(data))
