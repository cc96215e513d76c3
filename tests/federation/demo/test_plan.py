import pytest

from federation.contract.errors import Invalid
from federation.contract.types import Connectivity, EngineKind
from federation.demo.geography import load_geography
from federation.demo.plan import RAY_PORTS, default_engines, make_plan, parse_engines


class _Ports:
    """Every wish comes true; blocks follow one another."""

    def __init__(self) -> None:
        self.blocks: list[int] = []

    def take(self, wished: int, purpose: str) -> int:
        assert purpose
        return wished

    def block(self, size: int) -> int:
        self.blocks.append(size)
        return 20000 + 1000 * len(self.blocks)


def test_the_whole_demo_has_four_tritons_one_ray_and_a_lane_from_each_router_to_each_site() -> None:
    ports = _Ports()
    plan = make_plan(default_engines(triton_available=True), load_geography(), ports)
    kinds = {site.name: site.engine for site in plan.sites}
    assert kinds["ap-southeast"] is EngineKind.RAY_SERVE
    assert [*kinds.values()].count(EngineKind.TRITON) == 4
    assert sorted(ports.blocks) == [3, 3, 3, 3, RAY_PORTS]
    assert len(plan.lanes) == len(plan.pops) * len(plan.sites) == 10
    assert {(lane.pop, lane.site) for lane in plan.lanes} == {
        (pop.name, site.name) for pop in plan.pops for site in plan.sites
    }
    assert len({site.agent_port for site in plan.sites}) == 5
    assert [s.name for s in plan.sites if s.connectivity is Connectivity.REVERSE] == ["us-east"]
    assert plan.control_plane_url == "https://127.0.0.1:7480"


def test_the_distances_are_those_of_the_matrix() -> None:
    plan = make_plan({EngineKind.TRITON: 5}, load_geography(), _Ports())
    rtt = {(lane.pop, lane.site): lane.rtt_ms for lane in plan.lanes}
    assert rtt["eu", "eu-west"] < 30 < rtt["us", "eu-west"] < rtt["us", "ap-southeast"]
    assert rtt["us", "us-east"] < 15


def test_without_triton_there_are_two_far_regions_on_ray() -> None:
    plan = make_plan(default_engines(triton_available=False), load_geography(), _Ports())
    assert [site.name for site in plan.sites] == ["eu-west", "us-east"]
    assert {site.engine for site in plan.sites} == {EngineKind.RAY_SERVE}
    assert plan.sites[0].engine_http_port != plan.sites[1].engine_http_port


def test_targets_are_regions_routers_and_the_control_plane() -> None:
    plan = make_plan({EngineKind.TRITON: 1}, load_geography(), _Ports())
    assert plan.targets() == ("eu-west", "router-eu", "router-us", "control-plane")
    assert plan.site("eu-west") is plan.sites[0]
    assert plan.site("router-eu") is None


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("triton=4,ray=1", {EngineKind.TRITON: 4, EngineKind.RAY_SERVE: 1}),
        ("ray=2", {EngineKind.RAY_SERVE: 2}),
        ("triton=1, ray=0", {EngineKind.TRITON: 1, EngineKind.RAY_SERVE: 0}),
    ],
)
def test_engines_are_counted(text: str, counts: dict[EngineKind, int]) -> None:
    assert parse_engines(text) == counts


@pytest.mark.parametrize(
    "text", ["", "vllm=1", "triton", "triton=x", "triton=0", "triton=6", "ray=1,ray=1"]
)
def test_engines_that_make_no_sense_are_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_engines(text)
    assert "'triton=4,ray=1'" in refusal.value.hint
