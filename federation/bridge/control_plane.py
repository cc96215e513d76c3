"""The bridge's calls of the control plane, with the client of `fed`.

Input: an endpoint, the files of a token and of roots, calls of the shell. Output: documents, or the
client's errors. The client blocks, so its calls run in a thread, one at a time; both files are read
again for each, so that they may be replaced under a running bridge.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from federation.bridge.policy.custom import CLUSTER, Bridged
from federation.bridge.policy.decide import Create
from federation.cli.client import ApiClient
from federation.cli.documents import Json, body, look_list, look_map, name_of, plain
from federation.cli.settings import read_token
from federation.cli.tls import read_roots
from federation.contract.errors import NotFound, Unavailable

T = TypeVar("T")

TIMEOUT_S = 10.0
_TOKEN_TTL_S = 1  # of the join token that a registration brings: nobody reads it


class ControlPlane:
    """One control plane. All calls raise FederationError."""

    def __init__(self, endpoint: str, *, token_file: str, ca_file: str) -> None:
        self._endpoint = endpoint
        self._files = (token_file, ca_file)
        self._read: tuple[str, str] | None = None
        self._client: ApiClient | None = None

    def __repr__(self) -> str:
        return f"ControlPlane({self._endpoint})"

    async def all_of(self, bridged: Bridged) -> dict[str, Json]:
        """Return all objects of a kind by name."""
        answer = await self._call(lambda c: c.get("api", "v1", bridged.kind.plural))
        return {name_of(each): each for each in look_list(answer, "items")}

    async def get(self, bridged: Bridged, name: str) -> Json | None:
        """Return one object, None if there is none."""
        try:
            return await self._call(lambda c: c.get("api", "v1", bridged.kind.plural, name))
        except NotFound:
            return None

    async def create(self, bridged: Bridged, name: str, command: Create) -> Json:
        """Make an object that does not exist; again under the same key, return what became of it.

        A cluster is registered; its agent's token is for whoever asks for one (`--rejoin`).
        """
        path, key = ("api", "v1", bridged.kind.plural, name), command.key
        if bridged is not CLUSTER:
            content = body(bridged.kind, name, command.spec, 0)
            return await self._call(
                lambda c: c.send("PUT", *path, content=content, idempotency_key=key)
            )
        wish = {"spec": plain(command.spec), "tokenTtlSeconds": _TOKEN_TTL_S}
        answer = await self._call(
            lambda c: c.send("POST", *path, "register", content=wish, idempotency_key=key)
        )
        return look_map(answer, "cluster")

    async def change(self, bridged: Bridged, name: str, spec: object, expected: int) -> Json:
        """Give an object a spec if it is still at this resource version."""
        content = body(bridged.kind, name, spec, expected)
        path = ("api", "v1", bridged.kind.plural, name)
        return await self._call(lambda c: c.send("PUT", *path, content=content))

    async def schedule(self, name: str, verb: str) -> Json:
        """Cordon, uncordon or drain a cluster."""
        return await self._call(lambda c: c.send("POST", "api", "v1", "clusters", name, verb))

    async def steer(self, name: str, verb: str) -> Json:
        """Pause, resume or abort a rollout."""
        path, content = ("api", "v1", "rollouts", name, verb), {"why": f"its object says {verb}"}
        return await self._call(lambda c: c.send("POST", *path, content=content))

    async def remove(self, bridged: Bridged, name: str, expected: int) -> None:
        """Delete an object if it is still at this resource version, and if there is one."""
        path = ("api", "v1", bridged.kind.plural, name)
        try:
            await self._call(lambda c: c.send("DELETE", *path, resourceVersion=str(expected)))
        except NotFound:
            return

    async def close(self) -> None:
        """End the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _call(self, work: Callable[[ApiClient], T]) -> T:
        """Run a call in a thread, to its end even if we are cancelled: it holds the connection."""

        def run() -> T:
            return work(self._current())

        future = asyncio.get_running_loop().run_in_executor(None, run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            future.exception()  # nobody is left to hear of it
            raise

    def _current(self) -> ApiClient:
        """Return a client with the token and roots of now; raises Invalid."""
        token_file, ca_file = self._files
        token, roots = read_token(token_file), read_roots(ca_file)
        held = (token, roots.pem if roots else "")
        if self._client is None or self._read != held:
            if self._client is not None:
                self._client.close()
            self._client = ApiClient(self._endpoint, token=token, roots=roots, timeout_s=TIMEOUT_S)
            self._read = held
        return self._client


def document_of(answer: Json) -> Json:
    """Return an answer that is an object with a name; raises Unavailable for anything else."""
    if not name_of(answer):
        raise Unavailable("the control plane answered with something that is no object.")
    return answer
