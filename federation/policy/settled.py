"""Where it is known that nothing changes for a model while a rollout of it goes on.

Input: what is wished of a model, records of clusters that were found to be as they shall be.
Output: the clusters that have to be looked at. To forget costs time and nothing else; what is
remembered counts only for the very objects that it was found with, since records are replaced,
never changed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from federation.contract.resources import DeploymentSpec
from federation.contract.types import EngineKind
from federation.policy.records import ClusterRecord, VersionRecord

_Found = tuple[object, object, EngineKind | None]  # assignment, spec, engine


@dataclass(slots=True)
class Known:
    """The clusters that are as one wish wants them: these versions, and what else it says."""

    spec: DeploymentSpec
    versions: tuple[VersionRecord, ...]
    rest: object
    _found: dict[str, _Found] = field(default_factory=dict)

    def is_about(self, other: "Known") -> bool:
        """Whether this is known of another's wish as well."""
        return (
            self.spec is other.spec
            and len(self.versions) == len(other.versions)
            and all(a is b for a, b in zip(self.versions, other.versions, strict=True))
            and self.rest == other.rest
        )

    def unsure(self, clusters: Mapping[str, ClusterRecord]) -> list[str]:
        """Return the clusters of which it is not known that nothing changes."""
        known = self._found.get
        return [
            name
            for name, record in clusters.items()
            if (found := known(name)) is None
            or found[0] is not record.assignment
            or found[1] is not record.spec
            or found[2] is not (record.last.engine if record.last else None)
        ]

    def note(self, record: ClusterRecord) -> None:
        """Remember that a cluster, which was given the model, is as it shall be."""
        engine = record.last.engine if record.last else None
        self._found[record.meta.name] = record.assignment, record.spec, engine


class Settled:
    """What is known, by model."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def __repr__(self) -> str:
        return f"Settled({len(self._known)} models)"

    def of(self, model: str, wished: Known) -> Known:
        """Return what is known of a model if that is wished of it, else what was not found yet."""
        known = self._known.get(model)
        if known is None or not known.is_about(wished):
            known = self._known[model] = wished
        return known

    def retain(self, models: Collection[str]) -> None:
        """Forget the others."""
        for model in self._known.keys() - models:
            del self._known[model]
