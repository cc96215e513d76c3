"""A plan on free ports and a demo that was not started, for the tests of its parts."""

import contextlib
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

from federation.contract.types import EngineKind
from federation.demo.geography import load_geography
from federation.demo.launch import Layout
from federation.demo.plan import Plan, make_plan
from federation.demo.ports import PortTaker
from federation.demo.running import Deadlines, Demo
from federation.demo.screen import Screen


def small_plan(*, triton: int = 1, ray: int = 1) -> Plan:
    """Return a plan; its ports are free now."""
    engines = {EngineKind.TRITON: triton, EngineKind.RAY_SERVE: ray}
    return make_plan(engines, load_geography(), PortTaker())


@contextlib.asynccontextmanager
async def idle_demo(root: Path, plan: Plan | None = None) -> AsyncIterator[Demo]:
    """Yield a demo of which nothing runs."""
    demo = Demo(
        plan or small_plan(),
        Layout(root),
        Screen(StringIO()),
        triton=None,
        deadlines=Deadlines(process_s=5),
    )
    try:
        yield demo
    finally:
        await demo.down()
