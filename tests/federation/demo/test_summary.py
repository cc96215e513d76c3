from io import StringIO
from pathlib import Path

import pytest

from federation.demo import summary
from federation.demo.operator_api import Json
from federation.demo.running import Demo
from tests.federation.demo.fakes import idle_demo


def _cluster(name: str, kind: str) -> Json:
    status = {
        "engine": {"kind": kind, "version": "2.51.0"},
        "gpu_products": {"L40S (simulated)": 2},
        "models": {"warm": 4, "assigned": 4},
        "rtt_ms": {"router-eu": 19.4},
    }
    return {"metadata": {"name": name}, "status": status}


async def test_the_table_shows_regions_as_they_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def items(plural: str) -> list[Json]:
        assert plural == "clusters"
        return [_cluster("eu-west", "triton"), _cluster("us-east", "ray-serve")]

    async with idle_demo(tmp_path) as demo:
        monkeypatch.setattr(demo.api, "items", items)
        lines = await _shown(demo)
    first = next(line for line in lines if line.startswith("  eu-west"))
    assert "Triton 2.51.0      2x L40S (simulated)   4/4      19 ms    -" in first
    assert any("Ray Serve 2.51.0" in line for line in lines)
    assert any(line.startswith("  Try       curl -i http://127.0.0.1:") for line in lines)
    assert any('eval "$(fed demo env)"' in line for line in lines)


async def _shown(demo: Demo) -> list[str]:
    await summary.show(demo)
    stream = demo.screen.stream
    assert isinstance(stream, StringIO)
    return stream.getvalue().splitlines()
