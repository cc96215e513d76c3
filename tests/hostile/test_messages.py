"""The corpus of gRPC messages through HAProxy and nginx, router and gateway: what engines see."""

import contextlib
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.hostile import proxies
from tests.hostile.corpus.messages import NAMING_TWICE, SWALLOWING
from tests.router.grpc.world import INFER, world


@pytest.mark.proxies
@pytest.mark.parametrize("proxy", [proxies.haproxy_h2, proxies.nginx_h2])
async def test_what_was_authorised_runs_behind_a_proxy(proxy: Any, tmp_path: Path) -> None:
    async with (
        world("eu-1") as w,
        proxy(int(w.address.rpartition(":")[2]), tmp_path) as front,
        grpc.aio.insecure_channel(f"127.0.0.1:{front}") as channel,
    ):
        infer: Any = channel.unary_unary(INFER)
        for case, (raw, runs) in NAMING_TWICE.items():
            before = len(w.seen())
            with contextlib.suppress(grpc.aio.AioRpcError):  # the engine may refuse it
                await infer(raw, timeout=10)
            seen = w.seen()[before:]
            assert {r.model_name for r in seen} <= {runs}, case
            assert seen or case == "an over-long length"
        before = len(w.seen())
        for raw in SWALLOWING.values():
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await infer(raw, timeout=10)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(w.seen()) == before
