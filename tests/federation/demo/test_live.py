import random

from federation.contract.types import Location
from federation.demo.geography import Client
from federation.demo.live import picture
from federation.demo.load import Load, RouterAt
from federation.demo.load_stats import Outcome
from federation.demo.payloads import completion

_PLACE = Location(latitude=0, longitude=0)


async def test_a_picture_shows_regions_and_all() -> None:
    router = RouterAt("router-eu", "http://127.0.0.1:1", _PLACE)
    mix = [(1, completion("x", stream=False))]
    async with Load([router], [Client("1.2.3.4", "Asia", _PLACE)], mix, random.Random(1)) as load:
        for region in ("us-east", "us-east", "eu-west"):
            load.outcomes.append(
                Outcome(due_s=0, latency_s=0.05, kind="k", continent="Asia", region=region)
            )
        lines = picture(load)
    assert [line.split()[0] for line in lines[1:]] == [
        "REQUESTS",
        "eu-west",
        "us-east",
        "last",
        "all",
    ]
    assert lines[-1].split()[1] == "3"
    assert "50 ms" in lines[-1]
