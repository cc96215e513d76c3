"""A store of packs on a thread for each connection, which can be told to misbehave on the wire.

Input: objects by path, and `answer`, what is done with each request. Output: bytes on sockets, and
an account of every one of them. And packages to serve from it.
"""

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from edge_agent.sync.offers import Offer, WantedChunk
from federation.chunking.encoding import encode
from federation.contract.locations import RAW, Locations, PackSource, Place, pack_places
from federation.contract.manifest import Chunk, pack_chunks
from federation.contract.types import FileEntry, Manifest
from federation.trust.credentials import Credentials

_RANGE = re.compile(rb"range: bytes=([0-9]+)-([0-9]+)", re.IGNORECASE)


@dataclass
class Ask:
    """One request, and the means to answer it. `count` is 0 without a range."""

    store: "Store"
    sock: socket.socket
    target: str
    first: int
    count: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def data(self) -> bytes:
        return self.store.objects[self.path][self.first : self.first + self.count]

    def head(self, status: int = 206, **fields: str | int) -> None:
        """Send a head; by default that of a correct answer."""
        total = len(self.store.objects.get(self.path, b""))
        last = self.first + self.count - 1
        if status == 206:
            fields = {
                "Content_Range": f"bytes {self.first}-{last}/{total}",
                "Content_Length": self.count,
                **fields,
            }
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.raw("\r\n".join((f"HTTP/1.1 {status} Told", *lines, "", "")).encode())

    def raw(self, data: bytes) -> None:
        """Send bytes, and account for them as they leave."""
        for start in range(0, len(data), 16 << 10):
            part = data[start : start + (16 << 10)]
            self.sock.sendall(part)
            self.store.sends.append((time.monotonic(), len(part), self.path))

    def right(self) -> None:
        """Answer as one should."""
        if self.path in self.store.objects:
            self.head()
            self.raw(self.data)
        else:
            self.head(404, Content_Length=0)


class Store:
    """Serves `objects`; every request is logged in `asked`, every send in `sends`."""

    def __init__(self, credentials: Credentials | None = None, *, send_buffer: int = 0) -> None:
        self.objects: dict[str, bytes] = {}
        self.answer: Callable[[Ask], None] = Ask.right
        self.asked: list[Ask] = []
        self.sends: list[tuple[float, int, str]] = []
        self._context = credentials.server_context() if credentials else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        if send_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        scheme = "https" if credentials else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.stopped = threading.Event()
        self.connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def sent_bytes(self) -> int:
        return sum(count for _, count, _ in self.sends)

    def close(self) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self.connections):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                sock.settimeout(5)
                sock = stack.enter_context(self._context.wrap_socket(sock, server_side=True))
                sock.settimeout(None)
            self.connections.append(sock)
            while not self.stopped.is_set() and (ask := self._read(sock)):
                self.asked.append(ask)
                self.answer(ask)

    def _read(self, sock: socket.socket) -> Ask | None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := sock.recv(8192)):
                return None
            head += more
        target = head.split()[1].decode()
        match = _RANGE.search(head)
        first, last = (int(match[1]), int(match[2])) if match else (0, -1)
        return Ask(self, sock, target, first, last - first + 1)


@contextlib.contextmanager
def serving(credentials: Credentials | None = None, **settings: int) -> Iterator[Store]:
    """Run a store for the duration of a block."""
    store = Store(credentials, **settings)
    try:
        yield store
    finally:
        store.close()


# ---------------------------------------------------------------- packages


@dataclass
class Package:
    """A package of one file in one pack at `path`, and what has been put of it."""

    manifest: Manifest
    locations: Locations
    chunks: list[bytes]
    pack: bytes
    path: str
    put_chunks: dict[int, bytes] = field(default_factory=dict)
    loads: int = 0

    @property
    def wanted(self) -> list[WantedChunk]:
        found, offset = [], 0
        for number, data in enumerate(self.chunks):
            found.append(WantedChunk(number, blake3(data).digest(), len(data), offset))
            offset += len(data)
        return found

    @property
    def whole(self) -> bool:
        return self.put_chunks == dict(enumerate(self.chunks))

    def put(self, number: int, data: memoryview) -> None:
        assert number not in self.put_chunks
        self.put_chunks[number] = bytes(data)

    def offer(self) -> Offer:
        async def load() -> Locations:
            self.loads += 1
            return self.locations

        return Offer(self.manifest, self.locations, load)


def make_package(
    store: Store, sizes: list[int], *, path: str = "/packs/a", code: int = RAW, seed: int = 0
) -> Package:
    """Return a package of chunks of these sizes, whose pack the store serves."""
    dice = random.Random(seed)
    chunks = [
        dice.randbytes(size) if code == RAW else dice.randbytes(16) * (size // 16) for size in sizes
    ]
    pack, places = b"", []
    for data in chunks:
        stored = encode(data, code)
        places.append(Place(0, len(pack), len(stored), code))
        pack += stored
    records = pack_chunks(Chunk(blake3(data).digest(), len(data)) for data in chunks)
    entry = FileEntry(path="w", size=sum(sizes), blake3="0" * 64, sha256="0" * 64, chunks=records)
    source = PackSource(id="a", url=f"{store.url}{path}")
    locations = Locations(packs=(source,), places=pack_places(places), good_for_s=600)
    store.objects[path] = pack
    return Package(Manifest(model="m", files=(entry,)), locations, chunks, pack, path)
