import socket

import pytest

from federation.contract.errors import Conflict
from router.workers.places import CAN_SHARE, hold, shared


@pytest.mark.skipif(not CAN_SHARE, reason="this system has no SO_REUSEPORT")
def test_several_listen_where_one_holds() -> None:
    place = hold("127.0.0.1:0")
    listeners = [shared(place.address) for _ in range(2)]
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place.address, timeout=5)  # holding is not listening
        for listener in listeners:
            listener.listen()
            assert listener.getsockname() == place.address
        with pytest.raises(Conflict, match="in use by another process"):
            hold("{}:{}".format(*place.address))
        socket.create_connection(place.address, timeout=5).close()
    finally:
        place.close()
        for listener in listeners:
            listener.close()


def test_where_nothing_can_be_shared_one_socket_is_inherited() -> None:
    place = hold("127.0.0.1:0", sharing=False)
    assert place.inherited is place.held
    assert place.held.get_inheritable()
    with socket.create_connection(place.address, timeout=5):
        place.held.accept()[0].close()
    place.close()
