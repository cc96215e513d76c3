import io
import json
from pathlib import Path

from federation.demo.load_run import LoadOptions, as_document, run_load
from federation.demo.load_stats import Outcome
from federation.demo.screen import Screen

_STATE = {
    "routers": [
        {
            "name": "router-eu",
            "url": "http://127.0.0.1:1",
            "location": {"latitude": 52, "longitude": 5},
        }
    ],
}


def test_the_document_has_everything_by_region_continent_kind_and_router() -> None:
    outcome = Outcome(
        due_s=0, latency_s=0.1, kind="infer", continent="Asia", region="eu-west", router="router-eu"
    )
    document = as_document([outcome], 2.0)
    assert document["all"]["requests"] == 1
    assert {name: list(groups) for name, groups in document["by"].items()} == {
        "region": ["eu-west"],
        "continent": ["Asia"],
        "kind": ["infer"],
        "router": ["router-eu"],
    }


async def test_requests_that_fail_are_printed_with_their_text_and_end_in_one(
    tmp_path: Path,
) -> None:
    out = io.StringIO()
    options = LoadOptions(rate=40, duration_s=0.2)
    key = tmp_path / "inference.key"
    key.write_text("fed_key_demo_x")
    assert await run_load({**_STATE, "inference_key": str(key)}, options, Screen(out)) == 1
    assert "ClientConnectorError" in out.getvalue()
    assert "ALL" in out.getvalue()


async def test_json_is_the_only_thing_on_the_output(tmp_path: Path) -> None:
    out = io.StringIO()
    options = LoadOptions(rate=40, duration_s=0.1, as_json=True)
    key = tmp_path / "inference.key"
    key.write_text("fed_key_demo_x")
    await run_load({**_STATE, "inference_key": str(key)}, options, Screen(out))
    document = json.loads(out.getvalue())
    assert document["all"]["failed"] == document["all"]["requests"]
