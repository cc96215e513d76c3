import json

import pytest

from federation.cli.output import Format
from federation.cli.rollout_plan import lines, show_plan
from tests.federation.cli.fake_rollouts import PLAN


def test_a_plan_tells_waves_bytes_and_what_is_missing() -> None:
    made = [" ".join(line.split()) for line in lines(PLAN)]
    assert made == [
        "rollout/m-2 (not started): model m, version 1 -> 2",
        "WAVE CLUSTER REGION FITS REPLICAS BYTES WHY",
        "1 eu-1 eu beside 2 5.0 MB 1.25 MB/s, its cap",
        "2 (approval) us-1 us cannot 0 up to 7.0 MB no room for both",
        "",
        "REGION CLUSTERS BYTES FROM-ORIGIN BYTES-THERE-IN",
        "eu 1 5.0 MB 0 B 4s",
        "",
        "It takes 12m at least, besides bringing the bytes and warming up.",
        "note: both versions do not fit at once at us-1",
    ]


def test_it_is_printed_in_each_format(capsys: pytest.CaptureFixture[str]) -> None:
    for output in (Format.TABLE, Format.JSON, Format.NAME):
        show_plan(PLAN, output)
    out = capsys.readouterr().out
    assert "rollout/m-2\n" in out
    assert json.loads(out[out.index("{") : out.rindex("}") + 1]) == PLAN
