from typing import get_type_hints

from federation.relay.http1.server import ServerConnection
from federation.relay.pool import DialledStock
from federation.relay.transport import PREFACE, Dialler, Inbound


def test_both_ends_keep_to_the_interfaces() -> None:
    assert len(PREFACE) == 24
    assert issubclass(DialledStock, Dialler)
    assert set(get_type_hints(Inbound)) <= {"transport", "on_lost"}
    assert {"on_lost", "transport"} <= set(dir(ServerConnection))
