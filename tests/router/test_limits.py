import resource

import pytest

from router.limits import proxy_limits, public_limits
from router.request.call import HoldingLimits
from router.settings import Settings


def test_what_is_set_is_what_is_granted() -> None:
    settings = Settings(
        replay_buffer_bytes=2000,
        max_body_bytes=1000,
        max_connections=10,
        max_connections_per_address=5,
        client_idle_ms=1500,
        client_body_ms=2500,
        client_stall_ms=3500,
        deadline_ms=4500,
        trusted_proxies=("10.0.0.0/8",),
        hold_ms=5500,
        hold_memory_bytes=77,
        hold_requests=600,
        hold_requests_per_model=6,
        max_concurrent=1000,
    )
    public, request = public_limits(settings), proxy_limits(settings)
    assert public.keepalive_s == 1.5
    assert (public.connections.total, public.connections.per_address) == (10, 5)
    assert (public.connections.exempt, public.connections.closing_s) == (("10.0.0.0/8",), 3.5)
    assert (request.body.max_bytes, request.body.total_s) == (1000, 2.5)
    assert (request.replay_bytes, request.stall_s, request.deadline_s) == (1000, 3.5, 4.5)
    # Half of all places stay for models that don't sleep.
    assert request.holding == HoldingLimits(per_model=6, total=500, body_bytes=77, hold_s=5.5)


@pytest.mark.parametrize(("files", "total"), [(100_000, 8192), (4096, 2560), (100, 1)])
def test_where_files_are_short_some_are_left_for_the_clusters(
    monkeypatch: pytest.MonkeyPatch, files: int, total: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(files, 1024), files))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert public_limits(Settings()).connections.total == total
