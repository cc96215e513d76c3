"""`fed model diff`: what changed between two versions, and what would travel to which region.

Input: two versions of one or two models; the clusters and what they have. Output: a line for each
file, then one for each region. Only chunks that no cluster of a region has must come from the
origin; the rest its clusters take from each other.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from federation.chunking.delta import Change, Delta, compare
from federation.cli.client import ApiClient
from federation.cli.columns import size
from federation.cli.documents import Json, look, look_list, name_of
from federation.cli.model_pull import split_version
from federation.cli.options import output_option
from federation.cli.output import Format, put, put_table, put_value
from federation.cli.session import Session, command, pass_session
from federation.contract.errors import NotFound
from federation.contract.locations import Locations, bases_of, parse_locations, places_of
from federation.contract.manifest import distinct_chunks, parse_manifest
from federation.contract.types import Manifest

HAVING = ("staged", "verified", "loaded", "warmed", "draining", "cached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """What must travel to a region. `wire` are the bytes that leave the store; `from_origin` are
    the same before encoding, and without the bases of differences; `most` is what the cluster that
    lacks most must fetch, from wherever, before encoding."""

    region: str
    clusters: int
    from_origin: int
    wire: int
    most: int


def travels(
    new: Manifest,
    held: Mapping[str, Mapping[str, Sequence[Manifest]]],
    locations: Locations | None = None,
) -> list[Travel]:
    """Return what must travel, for each region; `held` = the manifests of each of its clusters,
    `locations` = how the new chunks are stored (None = as they are)."""
    chunks = distinct_chunks(new)
    stored = _Stored(chunks, locations)
    found = []
    for region, clusters in sorted(held.items()):
        lacking = [_lacking(chunks, manifests) for manifests in clusters.values()]
        nowhere = set.intersection(*lacking) if lacking else set()
        bases = set(stored.bases.values())
        absent = set[bytes]().union(*(_lacking(bases, m) for m in clusters.values()))
        found.append(
            Travel(
                region=region,
                clusters=len(clusters),
                from_origin=_bytes(chunks, nowhere),
                wire=sum(stored.wire(digest, absent) for digest in nowhere),
                most=max((_bytes(chunks, one) for one in lacking), default=0),
            )
        )
    return found


class _Stored:
    """How the chunks of a version are stored; `bases` = chunk to what it is a difference to."""

    def __init__(self, chunks: Mapping[bytes, int], locations: Locations | None) -> None:
        self._sizes = dict(chunks)
        self.bases: dict[bytes, bytes] = {}
        if locations is not None:
            digests = list(chunks)
            places = dict(zip(digests, places_of(locations), strict=True)) | bases_of(locations)
            self._sizes = {digest: place.stored for digest, place in places.items()}
            self.bases = {digests[n]: bytes.fromhex(b) for n, b in locations.bases.items()}

    def wire(self, digest: bytes, absent: Container[bytes]) -> int:
        """Return what is fetched for a chunk by a cluster that may lack the bases in `absent`."""
        base = self.bases.get(digest, b"")
        return self._sizes[digest] + (self._sizes[base] if base in absent else 0)


def _lacking(chunks: Iterable[bytes], manifests: Iterable[Manifest]) -> set[bytes]:
    lacking = set(chunks)
    for manifest in manifests:
        lacking.difference_update(distinct_chunks(manifest))
    return lacking


def _bytes(chunks: Mapping[bytes, int], digests: Iterable[bytes]) -> int:
    return sum(chunks[digest] for digest in digests)


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
