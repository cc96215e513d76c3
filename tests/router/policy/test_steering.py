import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.types import Endpoint, Location, RouterSite
from router.policy import steering
from router.policy.latency import PRIOR_BASE_MS, prior_ms
from router.policy.shortlist import Option
from router.policy.signals import Signals
from router.policy.steering import Spot

LONDON = Location(latitude=51.5, longitude=-0.1)
TOKYO = Location(latitude=35.7, longitude=139.7)
VIRGINIA = Location(latitude=38.9, longitude=-77.0)
places = st.builds(Location, latitude=st.floats(-90.0, 90.0), longitude=st.floats(-180.0, 180.0))


def site(name: str, location: Location | None, url: str = "") -> RouterSite:
    return RouterSite(name=name, url=url or f"https://{name}.example.net", location=location)


def spot(cluster: str, location: Location, rtt_ms: float, answer_ms: float = 5.0) -> Spot:
    return Spot(
        cluster=cluster, location=location, rtt_ms=rtt_ms, measured=True, answer_ms=answer_ms
    )


EU, JP = site("eu", LONDON), site("jp", TOKYO)


def test_a_client_beside_a_cluster_and_another_router_is_told() -> None:
    both = [spot("eu-1", LONDON, 2.0), spot("jp-1", TOKYO, 230.0)]
    found = steering.estimates(TOKYO, steering.legs((EU, JP), "eu", both, 1.0), 1.0)
    assert [e.name for e in found] == ["jp", "eu"]
    best, asked = found
    assert (best.leg.cluster, best.leg.measured) == ("jp-1", False)
    assert best.way_ms == pytest.approx(2 * PRIOR_BASE_MS)
    assert best.expected_ms == pytest.approx(2 * PRIOR_BASE_MS + 5.0)
    assert (asked.leg.cluster, asked.leg.measured) == ("eu-1", True)
    assert "2 ms to eu-1, measured" in asked.why
    advice = steering.advise(found, "eu")
    assert advice is not None
    assert advice.site is JP
    assert asked.expected_ms is not None
    assert best.expected_ms is not None
    assert advice.gain_ms == asked.expected_ms - best.expected_ms


def test_the_same_way_in_another_order_is_not_better() -> None:
    """The only cluster stands beside the router that was asked: a nearer one saves nothing."""
    only = [spot("eu-1", LONDON, 2.0)]
    found = steering.estimates(TOKYO, steering.legs((EU, JP), "eu", only, 1.0), 1.0)
    assert found[0].name == "eu"
    assert steering.advise(found, "eu") is None


def test_a_busy_cluster_nearby_counts_as_it_is() -> None:
    busy = [spot("eu-1", LONDON, 2.0), spot("jp-1", TOKYO, 230.0, answer_ms=900.0)]
    found = steering.estimates(TOKYO, steering.legs((EU, JP), "eu", busy, 1.0), 1.0)
    assert {e.leg.cluster for e in found} == {"eu-1"}


@pytest.mark.parametrize(
    ("gain_ms", "way_ms", "told", "is_told"),
    [
        (19.9, 40.0, "", False),  # too little,
        (20.1, 60.0, "", True),
        (30.0, 200.0, "", False),  # or too small a share
        (60.0, 200.0, "", True),
        (30.0, 200.0, "there", True),  # but one that was told stays
        (30.0, 200.0, "elsewhere", False),
        (24.0, 200.0, "there", False),
    ],
)
def test_only_clearly_better_ones_are_told(
    gain_ms: float, way_ms: float, told: str, is_told: bool
) -> None:
    def estimate(name: str, ms: float) -> steering.Estimate:
        return steering.Estimate(leg=steering.Leg(site=site(name, LONDON)), client_ms=ms)

    found = [estimate("there", way_ms - gain_ms), estimate("here", way_ms)]
    assert (steering.advise(found, "here", told) is not None) is is_told


def test_without_places_nobody_is_told() -> None:
    both = [spot("eu-1", LONDON, 2.0), spot("jp-1", TOKYO, 230.0)]
    onward = steering.legs((EU, JP, site("new", None)), "eu", both, 1.0)
    assert steering.advise(steering.estimates(None, onward, 1.0), "eu") is None
    found = steering.estimates(TOKYO, onward, 1.0)
    assert found[-1].name == "new"
    assert found[-1].expected_ms is None
    assert "not known" in found[-1].why
    assert steering.advise(found, "new") is None
    assert steering.advise(found, "nobody") is None
    assert steering.advise([], "eu") is None


def test_distances_are_scaled_by_what_was_measured() -> None:
    seen = [(place, 1.5 * prior_ms(LONDON, place)) for place in (TOKYO, VIRGINIA, LONDON)]
    assert steering.scale_of(LONDON, seen) == pytest.approx(1.5)
    assert steering.scale_of(LONDON, seen[:2]) == 1.0
    assert steering.scale_of(LONDON, [(place, 9 * ms) for place, ms in seen]) == 2.0
    assert steering.scale_of(None, seen) == 1.0


@pytest.mark.parametrize(
    ("url", "own", "stays"),
    [
        ("https://r.example.net", "https://own.example.net", True),
        ("http://127.0.0.1:7400", "https://own.example.net", False),
        ("http://127.0.0.1:7400", "http://127.0.0.1:7300", True),
        ("https://r.example.net", "http://127.0.0.1:7300", True),
        ("http://0.0.0.0:7400", "https://own.example.net", False),
        ("http://localhost:1", "https://own.example.net", False),
        ("https://[::1]:1", "https://own.example.net", False),
        ("https://x>; rel=y", "https://own.example.net", False),
        ("https://x\r\ny: z", "https://own.example.net", False),
        ("https://x:port", "https://own.example.net", False),
        ("https://[x", "https://own.example.net", False),
        ("ftp://x", "https://own.example.net", False),
        ("", "https://own.example.net", False),
    ],
)
def test_only_routers_that_others_can_reach(url: str, own: str, stays: bool) -> None:
    sites = (site("own", LONDON, own), RouterSite(name="r", url=url, location=TOKYO))
    found = steering.reachable(sites, "own")
    assert [s.name for s in found] == (["own", "r"] if stays else ["own"])


def test_the_best_cluster_of_each_place() -> None:
    signals = Signals()
    options = []
    for name, place, rtt_ms in (("a", LONDON, 9.0), ("b", LONDON, 3.0), ("c", TOKYO, 99.0)):
        endpoint = Endpoint(cluster=name, region=name, url="http://h:1", location=place)
        option = Option(endpoint, signals.lane(name, "m", 1), 1.0, 0)
        option.rtt_ms, option.measured = rtt_ms, True
        options.append(option)
    assert {s.cluster for s in steering.spots(options, 0.0)} == {"b", "c"}
    options[1].why = "ejected"
    options[2].lane.held_until_s = 5.0
    assert [s.cluster for s in steering.spots(options, 1.0)] == ["a"]


@given(
    client=places,
    sites=st.lists(st.none() | places, min_size=1, max_size=4),
    clusters=st.lists(st.tuples(places, st.floats(0.1, 400.0), st.floats(0.0, 500.0)), max_size=4),
    scale=st.floats(0.5, 2.0),
)
def test_who_is_told_is_better_and_would_not_send_back(
    client: Location,
    sites: list[Location | None],
    clusters: list[tuple[Location, float, float]],
    scale: float,
) -> None:
    known = [site(f"r{i}", place) for i, place in enumerate(sites)]
    around = [spot(f"c{i}", place, rtt, ms) for i, (place, rtt, ms) in enumerate(clusters)]
    found = steering.estimates(client, steering.legs(known, "r0", around, scale), scale)
    assert len(found) == len(known)
    advice = steering.advise(found, "r0")
    if advice is not None:
        assert advice.site.name == found[0].name != "r0"
        assert advice.gain_ms >= steering.CLEARLY_MS
        assert steering.advise(found, advice.site.name) is None
