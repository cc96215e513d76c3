"""The plan of a rollout as people read it: waves, what travels, where capacity is missing.

Input: the answer of the control plane. Output: tables on stdout.
"""

from collections.abc import Iterator

from federation.cli.cells import duration, shown, size
from federation.cli.documents import Json, look, look_list
from federation.cli.output import Format, Table, clean, coloured, put, put_value
from federation.cli.plan import REGION_TITLES, region_row

_TITLES = ("WAVE", "CLUSTER", "REGION", "FITS", "REPLICAS", "BYTES", "WHY")


def show_plan(plan: Json, output: Format) -> None:
    """Print a plan."""
    if output in (Format.JSON, Format.YAML):
        put_value(plan, output)
    elif output is Format.NAME:
        put(f"rollout/{clean(shown(look(plan, 'rollout')))}")
    else:
        for line in lines(plan):
            put(line)


def lines(plan: Json) -> Iterator[str]:
    """Yield a plan as people read it."""
    model, name = clean(shown(look(plan, "model"))), clean(shown(look(plan, "rollout")))
    versions = f"{shown(look(plan, 'stable'))} -> {shown(look(plan, 'canary'))}"
    yield f"rollout/{name} (not started): model {model}, version {versions}"
    gates = set(look_list(plan, "approvals"))
    rows = [_row(each, gates) for each in look_list(plan, "clusters")]
    yield from Table(_TITLES, rows).lines(colour=coloured())
    if regions := look_list(plan, "regions"):
        yield ""
        yield from Table(REGION_TITLES, map(region_row, regions)).lines(colour=coloured())
    yield ""
    least_s = float(look(plan, "least_s") or 0)
    yield f"It takes {duration(least_s)} at least, besides bringing the bytes and warming up."
    for words in look_list(plan, "notes"):
        yield f"note: {clean(shown(words))}"


def _row(cluster: Json, gates: set[object]) -> tuple[str, ...]:
    wave = look(cluster, "wave")
    count = size(int(look(cluster, "bytes") or 0))
    return (
        f"{wave} (approval)" if wave in gates else shown(wave),
        shown(look(cluster, "cluster")),
        shown(look(cluster, "region")),
        shown(look(cluster, "fit")),
        shown(look(cluster, "replicas")),
        count if look(cluster, "exact") else f"up to {count}",
        shown(look(cluster, "reason") or look(cluster, "assumes")),
    )
