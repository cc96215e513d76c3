"""What the demo will start: regions, engines, points of presence, lanes and ports.

Input: the wished engines, the geography and a taker of free ports. Output: a Plan, from which
`roles`, `engines` and `wan` build command lines and lanes. Nothing is started here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from federation.contract.errors import Invalid
from federation.contract.types import Connectivity, EngineKind, Location
from federation.demo.geography import Geography

# name, cloud region, declared devices (simulated), product, memory of one in MiB. In the order in
# which a smaller demo takes them: far apart first.
_SITES = (
    ("eu-west", "northeurope", 2, "L40S (simulated)", 46_068),
    ("us-east", "eastus", 4, "H100 (simulated)", 81_559),
    ("us-west", "westus2", 2, "A100 (simulated)", 81_920),
    ("eu-central", "germanywestcentral", 1, "L40S (simulated)", 46_068),
    ("ap-southeast", "southeastasia", 2, "A10G (simulated)", 23_028),
)
_POPS = (("eu", "westeurope"), ("us", "eastus2"))
MODELS = ("filetype", "shakespeare")
RAY_PORTS = 100  # one block of neighbours a Ray cluster
_BEHIND_NAT = "us-east"  # its agent dials the routers; every demo of two regions or more has it


class Ports(Protocol):
    """What the plan needs of a PortTaker."""

    def take(self, wished: int, purpose: str) -> int:
        """Return `wished` or another free port."""
        ...

    def block(self, size: int) -> int:
        """Return the first of `size` free neighbours."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A region with its one cluster of the same name: an agent and an engine."""

    name: str
    cloud_region: str
    location: Location
    engine: EngineKind
    gpus: int
    product: str
    memory_mib: int
    agent_port: int  # 0 = it takes no connections: its own go out to the routers
    agent_admin_port: int
    engine_ports: int  # the first of its block: Triton takes 3, Ray takes RAY_PORTS

    @property
    def advertised(self) -> str:
        """Return the HOST:PORT under which the site is known to routers; it resolves nowhere."""
        return f"{self.name}.demo.internal:7500"

    @property
    def connectivity(self) -> Connectivity:
        """Return who dials."""
        return Connectivity.DIAL if self.agent_port else Connectivity.REVERSE

    @property
    def engine_http_port(self) -> int:
        """Return the port of the engine's data plane."""
        return self.engine_ports + (11 if self.engine is EngineKind.RAY_SERVE else 0)

    @property
    def agent_name(self) -> str:
        """Return the name of the agent's process."""
        return f"agent-{self.name}"

    @property
    def engine_name(self) -> str:
        """Return the name of the engine's process."""
        kind = "ray" if self.engine is EngineKind.RAY_SERVE else "triton"
        return f"{kind}-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pop:
    """A point of presence: one router."""

    name: str
    cloud_region: str
    location: Location
    port: int
    admin_port: int
    reverse_port: int

    @property
    def reverse_advertised(self) -> str:
        """Return the HOST:PORT under which agents know the router; it resolves nowhere."""
        return f"{self.router_name}.demo.internal:7402"

    @property
    def router_name(self) -> str:
        """Return the router's name, also that of its process."""
        return f"router-{self.name}"

    @property
    def url(self) -> str:
        """Return where clients reach the router."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSpec:
    """The long way between one router and one site, whichever of them dials."""

    pop: str
    site: str
    rtt_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that will run."""

    sites: tuple[Site, ...]
    pops: tuple[Pop, ...]
    lanes: tuple[LaneSpec, ...]
    http_port: int
    grpc_port: int

    @property
    def control_plane_url(self) -> str:
        """Return the base of the operator API."""
        return f"https://127.0.0.1:{self.http_port}"

    def pop(self, name: str) -> Pop | None:
        """Return the point of presence of that name, or None."""
        return next((pop for pop in self.pops if pop.name == name), None)

    def site(self, name: str) -> Site | None:
        """Return the site of that name, or None."""
        return next((site for site in self.sites if site.name == name), None)

    def targets(self) -> tuple[str, ...]:
        """Return what `kill` and `restore` accept."""
        sites, pops = (s.name for s in self.sites), (p.router_name for p in self.pops)
        return (*sites, *pops, "control-plane")


def parse_engines(text: str) -> dict[EngineKind, int]:
    """Parse 'triton=4,ray=1'; raises Invalid with the remedy."""
    kinds = {"triton": EngineKind.TRITON, "ray": EngineKind.RAY_SERVE}
    counts: dict[EngineKind, int] = {}
    for part in text.split(","):
        word, _, number = part.strip().partition("=")
        if word not in kinds or not number.isdigit() or kinds[word] in counts:
            raise Invalid(f"--engines {text!r}: {part!r} is not understood.", hint=_ENGINES_HINT)
        counts[kinds[word]] = int(number)
    if not 1 <= sum(counts.values()) <= len(_SITES):
        raise Invalid(f"--engines {text!r} asks for no or too many regions.", hint=_ENGINES_HINT)
    return counts


_ENGINES_HINT = f"Write 'triton=4,ray=1' or 'ray=2': 1 to {len(_SITES)} regions in all."


def default_engines(*, triton_available: bool) -> dict[EngineKind, int]:
    """Return four Tritons and one Ray; two Rays where there is no Triton (Ray is heavier)."""
    if triton_available:
        return {EngineKind.TRITON: 4, EngineKind.RAY_SERVE: 1}
    return {EngineKind.RAY_SERVE: 2}


def make_plan(engines: Mapping[EngineKind, int], geography: Geography, ports: Ports) -> Plan:
    """Choose sites, lanes and ports."""
    kinds = [
        kind
        for kind in (EngineKind.TRITON, EngineKind.RAY_SERVE)
        for _ in range(engines.get(kind, 0))
    ]
    http_port = ports.take(7480, "control plane")
    grpc_port = ports.take(7481, "control plane's gRPC")
    pops = tuple(
        _pop(index, name, region, geography, ports) for index, (name, region) in enumerate(_POPS)
    )
    sites = tuple(_site(index, kind, geography, ports) for index, kind in enumerate(kinds))
    lanes = tuple(
        LaneSpec(
            pop=pop.name,
            site=site.name,
            rtt_ms=geography.rtt_ms[pop.cloud_region, site.cloud_region],
        )
        for pop in pops
        for site in sites
    )
    return Plan(sites=sites, pops=pops, lanes=lanes, http_port=http_port, grpc_port=grpc_port)


def _pop(index: int, name: str, region: str, geography: Geography, ports: Ports) -> Pop:
    return Pop(
        name=name,
        cloud_region=region,
        location=geography.locations[region],
        port=ports.take(7400 + 10 * index, f"router {name}"),
        admin_port=ports.take(7401 + 10 * index, f"router {name}'s admin page"),
        reverse_port=ports.take(7402 + 10 * index, f"router {name}'s door for agents"),
    )


def _site(index: int, kind: EngineKind, geography: Geography, ports: Ports) -> Site:
    name, region, gpus, product, memory_mib = _SITES[index]
    return Site(
        name=name,
        cloud_region=region,
        location=geography.locations[region],
        engine=kind,
        gpus=gpus,
        product=product,
        memory_mib=memory_mib,
        agent_port=0 if name == _BEHIND_NAT else ports.take(7500 + 10 * index, f"agent of {name}"),
        agent_admin_port=ports.take(7501 + 10 * index, f"admin page of {name}'s agent"),
        engine_ports=ports.block(RAY_PORTS if kind is EngineKind.RAY_SERVE else 3),
    )
