"""`fed model diff`: what changed between two versions, and what would travel to which region.

Input: two versions of one or two models; the clusters and what they have. Output: a line for each
file, then one for each region. Only chunks that no cluster of a region has must come from the
origin; the rest its clusters take from each other.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from federation.chunking.delta import Change, Delta, compare
from federation.chunking.travel import Travel, travels
from federation.cli.cells import size
from federation.cli.client import ApiClient
from federation.cli.documents import Json, look, look_list, name_of
from federation.cli.model_pull import split_version
from federation.cli.options import output_option
from federation.cli.output import Format, put, put_table, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import NotFound
from federation.contract.locations import parse_locations
from federation.contract.manifest import parse_manifest
from federation.contract.types import Manifest

HAVING = ("staged", "verified", "loaded", "warmed", "draining", "cached")


@command("diff")
@click.argument("versions", metavar="OLD NEW", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Show files that are equal, too.")
@output_option(formats=(Format.TABLE, Format.JSON, Format.YAML))
@pass_session
def diff(session: Session, versions: tuple[str, ...], everything: bool, output: Format) -> None:
    """Tell what changed between two versions, and how many bytes would travel to which region.

    OLD and NEW are written MODEL@VERSION each, or as MODEL, VERSION and VERSION. A VERSION is a
    number or an alias; without one, the newest is meant. What clusters have already, of other
    versions too, is taken into account. ON-WIRE counts chunks as they are stored, compressed or as
    differences, with the old chunks that some cluster lacks to read these.

    \b
    Example:
      fed model diff filetype@1 filetype@2
      fed model diff filetype champion 3
    """
    old, new = _two(versions)
    with session.client() as client:
        manifests = _Manifests(client)
        before, after = manifests.get(*old), manifests.get(*new)
        held = _held(client, manifests)
        where = ("api", "v1", "models", new[0], "versions", new[1], "locations")
        locations = parse_locations(client.fetch(*where))
    delta, plan = compare(before, after), travels(after, held, locations)
    if output is not Format.TABLE:
        put_value(_document(delta, plan), output)
        return
    rows = [
        (each.path, each.change.value, size(each.size), size(each.travels), each.was)
        for each in delta.files
        if everything or each.change is not Change.EQUAL
    ]
    put_table(("FILE", "CHANGE", "SIZE", "NEW", "WAS"), rows)
    put(f"{size(delta.bytes)} of {size(delta.size)} are new, in {delta.chunks} chunks")
    if plan:
        put("")
        put_table(
            ("REGION", "CLUSTERS", "FROM-ORIGIN", "ON-WIRE", "MOST-FOR-ONE"),
            [
                (p.region, str(p.clusters), size(p.from_origin), size(p.wire), size(p.most))
                for p in plan
            ],
        )


def _two(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return model and version of both; raises UsageError."""
    match words:
        case (old, new):
            return [split_version(old), split_version(new)]
        case (model, old, new) if "@" not in "".join(words):
            return [split_version(f"{model}@{version}") for version in (old, new)]
        case _:
            raise click.UsageError("name two versions: MODEL@OLD MODEL@NEW, or MODEL OLD NEW.")


def _document(delta: Delta, plan: list[Travel]) -> Json:
    return {
        "size": delta.size,
        "newBytes": delta.bytes,
        "newChunks": delta.chunks,
        "files": [
            {
                "path": each.path,
                "change": each.change.value,
                "size": each.size,
                "newBytes": each.travels,
                "was": each.was,
            }
            for each in delta.files
        ],
        "regions": [
            {
                "region": p.region,
                "clusters": p.clusters,
                "fromOriginBytes": p.from_origin,
                "wireBytes": p.wire,
                "mostBytes": p.most,
            }
            for p in plan
        ],
    }


class _Manifests:
    """Manifests by model and version, each fetched once."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._known: dict[tuple[str, str], Manifest] = {}

    def get(self, model: str, version: str) -> Manifest:
        """Return a manifest; raises NotFound."""
        if (model, version) not in self._known:
            path = ("api", "v1", "models", model, "versions", version, "manifest")
            self._known[model, version] = parse_manifest(self._client.fetch(*path))
        return self._known[model, version]

    def known(self, versions: Iterable[Mapping[str, Any]]) -> list[Manifest]:
        """Return the manifests of the versions that there are still."""
        found = []
        for version in versions:
            try:
                found.append(self.get(str(version["model"]), str(version["version"])))
            except NotFound:
                continue
        return found


def _held(client: ApiClient, manifests: _Manifests) -> dict[str, dict[str, list[Manifest]]]:
    """Return for each region what its clusters have on their disks."""
    held: dict[str, dict[str, list[Manifest]]] = {}
    for cluster in look_list(client.get("api", "v1", "clusters"), "items"):
        region = str(look(cluster, "spec", "region") or "")
        versions = [v for v in look_list(cluster, "status", "versions") if v["state"] in HAVING]
        held.setdefault(region, {})[name_of(cluster)] = manifests.known(versions)
    return held
