"""One HTTP/1.1 connection of a worker thread, and the idle ones that are kept for reuse.

Input: a Site, TLS contexts, permits to read. Output: heads and bytes of bodies, into buffers of the
caller. Made for ranged GETs of immutable objects: blocking sockets and `recv_into`, no more bytes
in memory than the caller's buffer and one head.
"""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from edge_agent.sync.cancel import Cancel
from edge_agent.sync.http_head import END, MAX_HEAD_BYTES, Head, parse_head, request_head
from edge_agent.sync.sites import Site, Target
from federation.contract.errors import FederationError, Invalid, Unauthenticated, Unavailable
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials

_RECORD_BYTES, _RECORD_EXTRA = 16 << 10, 22  # of TLS 1.3: head, tag and type of a record
_HANDSHAKE_BYTES = 4 << 10  # about; what a handshake takes off the network
_PAY_S = 0.05  # what was read is paid for at least so often
_IDLE_S = 20.0
_MAX_IDLE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a server may take. Time in which we ourselves do not read never counts.

    Over any `window_s` of reading at least `min_bytes_per_s` must come.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    window_s: float = 20.0
    min_bytes_per_s: float = 1024.0


class Meter(Protocol):
    """Whom to ask before bytes are read, and to tell after."""

    def permit(self) -> int:
        """Wait for a turn; return how many bytes may be read."""
        ...

    def pay(self, count: int) -> None:
        """Note that `count` bytes were read."""
        ...


class Connection:
    """A connection, used by one thread at a time. After an error it can only be closed."""

    def __init__(self, sock: socket.socket, site: Site, patience: Patience, clock: Clock) -> None:
        self._sock, self.site = sock, site
        self._patience, self._clock = patience, clock
        self._extra = _HANDSHAKE_BYTES if site.tls else 0  # to be paid with the next bytes
        self._held = memoryview(b"")  # of a body; came with its head
        self._left = 0  # bytes of the body that were not given out yet
        self._reusable = True
        self._broken: OSError | None = None
        self._allowed = self._unpaid = 0
        self._waited_s, self._window_bytes = 0.0, 0
        self._paid_at = self.idle_since = clock.monotonic_s()

    def __repr__(self) -> str:
        return f"Connection({self.site}, {self._left} bytes left of the body)"

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context it was made with."""
        return self._sock.context if isinstance(self._sock, ssl.SSLSocket) else None

    @property
    def reusable(self) -> bool:
        """Whether the next request can be sent: the body was read, nothing came after it."""
        if not self._reusable or self._left:
            return False
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return not pending and not select.select([self._sock], [], [], 0)[0]

    def close(self) -> None:
        """Close it, without a farewell."""
        self._sock.close()

    def interrupt(self) -> None:
        """End a read of another thread; the connection is of no use after that."""
        _shut(self._sock)

    def get(self, target: Target, span: tuple[int, int] | None, meter: Meter) -> Head:
        """Ask for a span of an object (first byte, number of bytes) and read the answer's head.

        Raises Unavailable if the connection breaks or stalls, Invalid for what is not an answer.
        """
        self._waited_s, self._window_bytes, self._left = 0.0, 0, 0
        with self._errors():
            self._sock.sendall(request_head(self.site.authority, target.target, span))
        data = bytearray(MAX_HEAD_BYTES)
        view, filled = memoryview(data), 0
        while (end := data.find(END, 0, filled)) < 0:
            if filled == len(data):
                raise Invalid(f"the head of its answer is longer than {MAX_HEAD_BYTES} bytes.")
            filled += self._receive(view[filled:], meter)
        head = parse_head(bytes(view[:end]))
        self._left = head.length or 0
        self._held = view[end + len(END) : filled]
        self._reusable = head.keep_alive and head.length is not None
        if len(self._held) > self._left:
            raise Invalid("more came than the answer's length says.")
        self._settle(meter)
        return head

    def read_into(self, view: memoryview, meter: Meter) -> int:
        """Read at least one byte of the body into `view`; return how many. Raises as `get`."""
        view = view[: self._left]
        if self._held:
            count = min(len(view), len(self._held))
            view[:count], self._held = self._held[:count], self._held[count:]
        else:
            count = self._receive(view, meter, fill=True)
        self._left -= count
        if not self._left:
            self._settle(meter)
        return count

    # ------------------------------------------------------------ the socket

    def _receive(self, view: memoryview, meter: Meter, *, fill: bool = False) -> int:
        """Read what is there into `view`; with `fill` go on until it is full, for a while."""
        if self._allowed <= 0:
            self._settle(meter)
            self._allowed = meter.permit()
        started = self._clock.monotonic_s()
        count = 0
        try:
            with self._errors():
                count = self._drain(view[: self._allowed], started + _PAY_S if fill else started)
        finally:
            now = self._clock.monotonic_s()
            self._allowed -= count
            self._unpaid += count
            if now - self._paid_at > _PAY_S or not count:
                self._settle(meter)
                self._paid_at = now
        if not count:
            raise Unavailable("it closed the connection before all was sent.")
        self._check_pace(now - started, count)
        return count

    def _drain(self, view: memoryview, until: float) -> int:
        """Read at least once, and until the view is full or the time is over; raises OSError.

        TLS gives one record of 16 KiB at a time, 65,536 for 1 GiB: few lines of Python for each.
        """
        if self._broken is not None:
            raise self._broken
        read, clock = self._sock.recv_into, self._clock.monotonic_s
        filled = read(view)
        while 0 < filled < len(view) and clock() < until:
            try:
                count = read(view[filled:])
            except OSError as error:
                self._broken = error  # for the next call: this one has bytes to give
                break
            if not count:
                break
            filled += count
        return filled

    def _settle(self, meter: Meter) -> None:
        """Pay for what was read, with an estimate of what TLS put around it."""
        if count := self._unpaid:
            records = -(-count // _RECORD_BYTES) if self.site.tls else 0
            meter.pay(count + records * _RECORD_EXTRA + self._extra)
            self._unpaid = self._extra = 0

    def _check_pace(self, waited_s: float, count: int) -> None:
        self._waited_s += waited_s
        self._window_bytes += count
        if self._waited_s < self._patience.window_s:
            return
        pace = self._window_bytes / self._waited_s
        if pace < self._patience.min_bytes_per_s:
            least = self._patience.min_bytes_per_s
            raise Unavailable(f"it sends {pace:.0f} bytes a second, less than {least:.0f}.")
        self._waited_s, self._window_bytes = 0.0, 0

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise Unavailable(f"it sent nothing for {self._patience.read_s:g} s.") from None
        except ssl.SSLError as error:
            raise Unavailable(f"TLS failed: {error.reason or 'it was cut'}.") from None
        except OSError as error:
            raise Unavailable(f"the connection broke: {error.strerror or error}.") from None


class Connections:
    """Makes connections, and keeps idle ones for the next request. Thread-safe."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials, self._clock = credentials, clock
        self._lock = threading.Lock()
        self._idle: list[tuple[tuple[Site, int | None], Connection]] = []
        self._closed = False
        self._system: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Connections({len(self._idle)} idle)"

    @contextlib.contextmanager
    def use(
        self, site: Site, patience: Patience, buffer: int | None, cancel: Cancel
    ) -> Iterator[Connection]:
        """Yield a connection, an idle one if there is one; it is kept if it is left without an
        error. `buffer` is the size of its receive buffer (None = the system's).

        Raises Unavailable if nobody answers, Unauthenticated if somebody else does.
        """
        connection = self._take(site, buffer) or self._dial(site, patience, buffer, cancel)
        try:
            with cancel.waking(connection.interrupt):
                yield connection
            self._keep((site, buffer), connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the idle ones; those in use are closed when they are left."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self, site: Site, buffer: int | None) -> Connection | None:
        now = self._clock.monotonic_s()
        while True:
            with self._lock:
                found = next((i for i in reversed(self._idle) if i[0] == (site, buffer)), None)
                if found is None:
                    return None
                self._idle.remove(found)
            connection = found[1]
            fresh = now - connection.idle_since < _IDLE_S
            if fresh and connection.reusable and self._is_current(connection):
                return connection
            connection.close()

    def _keep(self, key: tuple[Site, int | None], connection: Connection) -> None:
        dropped = connection
        connection.idle_since = self._clock.monotonic_s()
        if connection.reusable:
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._idle.append((key, connection))
                if len(self._idle) <= _MAX_IDLE:
                    return
                dropped = self._idle.pop(0)[1]
        dropped.close()

    def _is_current(self, connection: Connection) -> bool:
        context = connection.context
        return not connection.site.ours or context is self._context(connection.site)

    def _context(self, site: Site) -> ssl.SSLContext | None:
        if not site.tls:
            return None
        if site.ours:
            return self._credentials.client_context()
        with self._lock:
            self._system = self._system or ssl.create_default_context()
            return self._system

    def _dial(
        self, site: Site, patience: Patience, buffer: int | None, cancel: Cancel
    ) -> Connection:
        context = self._context(site)
        try:
            found = socket.getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"{site.host!r} is not known: {error.strerror}.") from None
        failure: FederationError = Unavailable(f"{site.host!r} has no address.")
        for family, kind, protocol, _, address in found[:4]:
            raw = socket.socket(family, kind, protocol)
            if buffer is not None:  # before connect: the window that is offered follows from it
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            try:
                sock = _connect(raw, address, site, context, patience, cancel)
            except OSError as error:
                cancel.check()
                failure = _dial_error(error, site, patience)
            else:
                return Connection(sock, site, patience, self._clock)
        raise failure


def _connect(
    raw: socket.socket,
    address: Any,  # what getaddrinfo gave for this family
    site: Site,
    context: ssl.SSLContext | None,
    patience: Patience,
    cancel: Cancel,
) -> socket.socket:
    """Return a connected socket, after the handshake if there is one; raises OSError."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(raw)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(patience.connect_s)
        with cancel.waking(lambda: _shut(raw)):
            sock.connect(address)
        if context is not None:
            name = site.name or site.host
            tls = context.wrap_socket(raw, server_hostname=name, do_handshake_on_connect=False)
            sock = stack.enter_context(tls)
            with cancel.waking(lambda: _shut(tls)):
                tls.do_handshake()
        sock.settimeout(patience.read_s)
        stack.pop_all()
        return sock


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # SSLSocket.shutdown would also drop its TLS state
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _dial_error(error: OSError, site: Site, patience: Patience) -> FederationError:
    if isinstance(error, TimeoutError):
        return Unavailable(f"it did not accept a connection within {patience.connect_s:g} s.")
    if isinstance(error, ssl.SSLCertVerificationError):
        who = site.name or site.host
        return Unauthenticated(f"it did not prove to be {who}: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return Unavailable(f"the TLS handshake failed: {error.reason or 'it was cut'}.")
    return Unavailable(f"no connection could be made: {error.strerror or error}.")
