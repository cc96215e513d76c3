"""`fed route explain`: where each router would send a request, or sent one, and why.

Input: a model reference and a client's address, or a request's id; what the routers answer over the
operator API, and where they are.
Output: per router the decision in a sentence and a table of candidates, the nearest router first.
"""

import math
from collections.abc import Iterator

import click

from federation.cli.cells import shown
from federation.cli.documents import Json, look, look_list, look_map, name_of
from federation.cli.lazy import LazyGroup
from federation.cli.options import names_of, output_option
from federation.cli.output import Format, Table, clean, coloured, put, put_value
from federation.cli.route_records import recall
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import FederationError, Unavailable

route = LazyGroup(
    "route",
    {"explain": (f"{__name__}:explain", "Tell where requests go or went, and why.")},
    help="Explain where requests go, and why.",
    epilog="\b\nExample:\n  fed route explain --model filetype --from 203.0.113.7\n"
    "  fed route explain --request 0c9d3a6f3c1c4a1f8a3e2b7d5f60718a",
)


@command("explain")
@click.option(
    "--model",
    metavar="MODEL[@VERSION|ALIAS]",
    default="",
    shell_complete=names_of("models"),
    help="The model that the request names.",
)
@click.option("--from", "address", metavar="ADDRESS", default="", help="The client's address.")
@click.option(
    "--client",
    "key",
    metavar="KEY",
    default="",
    help="Its session, user or sequence id: during a rollout this decides on the version.",
)
@click.option(
    "--request",
    "request_id",
    metavar="ID",
    default="",
    help="Instead: the x-request-id of a request that was answered.",
)
@output_option(formats=(Format.TABLE, Format.WIDE, Format.JSON, Format.YAML))
@pass_session
def explain(
    session: Session, model: str, address: str, key: str, request_id: str, output: Format
) -> None:
    """Tell where each router would send a request for a model, and why; or where a request went
    that was answered lately. Routers remember the last few thousand (--decision-records).

    \b
    Example:
      fed route explain --model filetype --from 203.0.113.7
      fed route explain --model filetype@champion --from 2001:db8::7 -o json
      fed route explain --model filetype --from 203.0.113.7 --client user-17
      fed route explain --request 0c9d3a6f3c1c4a1f8a3e2b7d5f60718a
    """
    if bool(request_id) == bool(model or address) or bool(model) != bool(address):
        raise click.UsageError("give --model and --from, or --request alone.")
    if request_id:
        recall(session, request_id, output)
        return
    with session.client() as client:
        asked = {"model": model, "from": address} | ({"client": key} if key else {})
        answer = client.get("api", "v1", "routes", "explain", **asked)
        places = _places(client.get("api", "v1", "routers"))
    routers = sorted(look_list(answer, "routers"), key=lambda each: _away_km(each, places))
    if not routers:
        raise Unavailable("no router is connected.", hint="Start one with `fed-router`.")
    if output in (Format.JSON, Format.YAML):
        put_value({**answer, "routers": routers}, output)
        return
    if not any(look(each, "explanation") for each in routers):
        told = {clean(shown(look(each, "error"))) or "no answer" for each in routers}
        raise FederationError(f"no router could explain it: {'; '.join(sorted(told))}")
    for index, each in enumerate(routers):
        if index:
            put("")
        for line in lines(each, _away_km(each, places), wide=output is Format.WIDE):
            put(line)


def lines(router: Json, away_km: float, *, wide: bool) -> Iterator[str]:
    """Yield what one router answered; `away_km` is how far the client is from it, or infinity."""
    explanation = look(router, "explanation")
    far = "" if math.isinf(away_km) else f", {away_km:.0f} km from the client"
    name, url = clean(shown(look(router, "router"))), clean(shown(look(router, "url")))
    yield f"router {name} ({url}{far})"
    if not explanation:
        yield f"  {clean(shown(look(router, 'error'))) or 'it gave no explanation'}"
        return
    if why := look(explanation, "why"):
        yield f"  {clean(shown(why))}"
    candidates = look_list(explanation, "candidates")
    if candidates:
        titles = ["", *_TITLES] + (_WIDE if wide else []) + ["NOTE"]
        rows = [_row(explanation, each, wide=wide) for each in candidates]
        if look(explanation, "split"):
            titles.insert(2, "VERSION")
            for row, each in zip(rows, candidates, strict=True):
                row.insert(2, shown(look(each, "version")))
        for line in Table(titles, rows).lines(colour=coloured()):
            yield f"  {line}"


_TITLES = ["CLUSTER", "REGION", "RTT", "IN-FLIGHT", "SCORE"]
_WIDE = ["AT-ONCE", "WAIT", "SERVICE", "OTHER", "BREAKER"]


def _row(explanation: Json, candidate: Json, *, wide: bool) -> list[str]:
    cluster, version = look(candidate, "cluster"), look(candidate, "version")
    chosen = cluster == look(explanation, "chosen")
    chosen = chosen and version in (None, look(explanation, "version"))
    rtt = _milliseconds(look(candidate, "rtt_ms"))
    row = [
        "*" if chosen else " ",
        shown(cluster),
        shown(look(candidate, "region")),
        f"~{rtt}" if rtt and look(candidate, "rtt_measured") is False else rtt,
        shown(_rounded(look(candidate, "in_flight"))),
        _milliseconds(look(candidate, "score_ms")),
    ]
    if wide:
        row += [
            shown(_rounded(look(candidate, "concurrency"))),
            _milliseconds(look(candidate, "wait_ms")),
            _milliseconds(look(candidate, "service_ms")),
            _milliseconds(look(candidate, "other_ms")),
            shown(look(candidate, "state")),
        ]
    return [*row, shown(look(candidate, "excluded"))]


def _milliseconds(value: object) -> str:
    return f"{value:.1f}ms" if isinstance(value, int | float) else ""


def _rounded(value: object) -> object:
    return round(value) if isinstance(value, float) else value


# ------------------------------------------------------------ who is near


def _places(listed: Json) -> dict[str, Json]:
    return {
        name_of(each): look_map(each, "status", "location") for each in look_list(listed, "items")
    }


def _away_km(router: Json, places: dict[str, Json]) -> float:
    """Return how far a router is from the client; infinity where either place is unknown."""
    here = _radians(look_map(router, "explanation", "client", "location"))
    there = _radians(places.get(str(look(router, "router")), {}))
    return _EARTH_KM * _angle(here, there) if here and there else math.inf


_EARTH_KM = 6371.0
_Place = tuple[float, float]


def _radians(place: Json) -> _Place | None:
    latitude, longitude = place.get("latitude"), place.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    return math.radians(latitude), math.radians(longitude)


def _angle(here: _Place, there: _Place) -> float:
    """Return the central angle of two places (haversine)."""
    half = math.sin((here[0] - there[0]) / 2) ** 2
    half += math.cos(here[0]) * math.cos(there[0]) * math.sin((here[1] - there[1]) / 2) ** 2
    return 2 * math.asin(math.sqrt(min(half, 1.0)))
