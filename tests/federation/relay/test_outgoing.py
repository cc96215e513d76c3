import pytest

from federation.relay.failures import ConnectFailed
from federation.relay.http1.client import ClientConnection
from federation.relay.http1.exchange import Upstream
from federation.relay.outgoing import Outgoing, place_of, send
from tests.fakes.requests import QuietTransport


def test_a_url_is_taken_apart() -> None:
    place = place_of("https://[::1]:8443/a/b")
    assert (place.secure, place.host, place.port, place.path) == (True, "::1", 8443, "/a/b")
    assert place.authority == "[::1]:8443"
    assert (place_of("http://h").port, place_of("https://h").port) == (80, 443)


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "http://h:0", "http://h:70000", "http://h /"]
)
def test_what_cannot_be_dialled_is_refused(url: str) -> None:
    with pytest.raises(ConnectFailed, match="cannot be dialled"):
        place_of(url)


async def test_its_lines_stand_in_the_head_beside_its_headers() -> None:
    connection, transport = ClientConnection(), QuietTransport()
    connection.connection_made(transport)
    upstream = Upstream(connection, lambda *_: None, first_byte_s=5, idle_s=5)
    outgoing = Outgoing(
        method="POST", url="http://h/p", headers={"A": "b"}, fields=b"C: d\r\n", body=b"xyz"
    )
    send(upstream, outgoing, place_of(outgoing.url), ("E", "f"))
    assert transport.written == (
        b"POST /p HTTP/1.1\r\nHost: h\r\nA: b\r\nE: f\r\nContent-Length: 3\r\nC: d\r\n\r\nxyz"
    )
    upstream.close()
