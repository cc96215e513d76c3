"""What the demo shows when everything runs: the regions, the addresses, and what to try next.

Input: a running demo, asked over its public interfaces. Output: lines on the screen.
"""

from federation.demo.operator_api import Json
from federation.demo.running import Demo

_ENGINES = {"triton": "Triton", "ray-serve": "Ray Serve", "static": "static"}


async def show(demo: Demo, *, what_next: bool = True) -> None:
    """Print the table, the URLs and, for people, what to try next."""
    screen, plan = demo.screen, demo.plan
    documents = {d["metadata"]["name"]: d for d in await demo.api.items("clusters")}
    rtt = await demo.rtt_ms()
    titles = [
        "REGION",
        "REACHED BY",
        "ENGINE",
        "GPUS",
        "MODELS",
        *(f"RTT {pop.name}" for pop in plan.pops),
    ]
    rows = [
        [
            site.name,
            site.connectivity.value,
            _engine(documents[site.name]["status"]),
            _gpus(documents[site.name]["status"]),
            _models(documents[site.name]["status"]),
            *(_ms(rtt.get((pop.router_name, site.name))) for pop in plan.pops),
        ]
        for site in plan.sites
    ]
    screen.line(f"\n  Ready in {screen.elapsed_s():.1f} s.\n")
    screen.table(titles, rows)
    screen.line()
    for pop in plan.pops:
        screen.line(f"  {'router ' + pop.name:<14} {pop.url}")
    screen.line(f"  {'control plane':<14} {plan.control_plane_url}\n")
    for line in _next_steps(demo) if what_next else ():
        screen.line(line)


def _next_steps(demo: Demo) -> list[str]:
    url, region = demo.plan.pops[0].url, demo.plan.sites[0].name
    body = '{"model": "shakespeare", "prompt": "ROMEO:\\n", "max_tokens": 120}'
    return [
        '  First     eval "$(fed demo env)"      (a context for fed, a key for requests)',
        f'  Try       curl -i {url}/v1/completions -H "authorization: Bearer $FED_KEY" \\',
        f"              -H 'content-type: application/json' -d '{body}'",
        "  Look      fed get clusters",
        "            fed route explain --model shakespeare --from 89.160.20.112",
        "  Load      fed demo load --rate 50",
        f"  Break it  fed demo kill {region}       (then: fed demo restore {region})",
        "  Stop      Ctrl-C, or: fed demo down     (nothing is left behind)",
    ]


def _engine(status: Json) -> str:
    engine = status["engine"]
    return f"{_ENGINES.get(engine['kind'], engine['kind'])} {engine['version']}".strip()


def _gpus(status: Json) -> str:
    products = status.get("gpu_products") or {}
    return ", ".join(f"{count}x {product}" for product, count in products.items()) or "-"


def _models(status: Json) -> str:
    return f"{status['models']['warm']}/{status['models']['assigned']}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
