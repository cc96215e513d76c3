import socket

from federation.demo.ports import PortTaker, is_free


def _listen() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


def test_a_free_port_is_taken_as_wished_and_only_once() -> None:
    with _listen() as probe:
        port = probe.getsockname()[1]
    ports = PortTaker()
    assert ports.take(port, "router") == port
    assert ports.take(port, "agent") != port
    assert ports.notes[0].startswith(f"port {port} is in use: the agent listens on ")


def test_a_port_in_use_is_replaced_and_told() -> None:
    with _listen() as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        ports = PortTaker()
        other = ports.take(port, "control plane")
        assert other != port
        assert is_free(other)
        assert ports.notes == [f"port {port} is in use: the control plane listens on {other}"]


def test_a_block_is_free_whole_and_blocks_do_not_overlap() -> None:
    ports = PortTaker()
    first, second = ports.block(10), ports.block(10)
    assert not set(range(first, first + 10)) & set(range(second, second + 10))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", second + 25))
        taken.listen()
        third = PortTaker(reserved=range(first, second + 10)).block(10)
        assert second + 25 not in range(third, third + 10)
