"""The recorded clusters of fixtures/: objects as the API server gives them, and what they come to.

Input: YAML files, one a case; `source` names the document that the expectation was worked out from
by hand. Output: cases for tests.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from edge_agent.policy.kube.tolerations import toleration
from edge_agent.policy.kube.view import KINDS, KubeView
from federation.contract.capacity import Pool, Sharing

FOLDER = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Case:
    name: str
    about: str
    source: str
    objects: tuple[dict[str, Any], ...]
    pools: tuple[Pool, ...]
    tolerations: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    unhealthy: tuple[str, ...] = ()
    waiting: int = 0
    reason: str = ""
    largest_block: int | None = None

    def view(self) -> KubeView:
        return KubeView(tolerations=[toleration(written) for written in self.tolerations])


def _pool(said: Mapping[str, Any]) -> Pool:
    return Pool(**{**said, "sharing": Sharing(said.get("sharing", "none"))})


@cache
def cases() -> tuple[Case, ...]:
    """Return every recorded cluster."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        said = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        lists: dict[str, Any] = {
            key: tuple(said.pop(key, ()))
            for key in ("objects", "tolerations", "devices", "unhealthy")
        }
        pools = tuple(_pool(pool) for pool in said.pop("pools"))
        found.append(Case(name=path.stem, pools=pools, **lists, **said))
    return tuple(found)


def of_kind(kind: str, objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [obj for obj in objects if obj["kind"] == kind]


def listed(case: Case) -> KubeView:
    """Return the view after one list of each kind."""
    view = case.view()
    for kind in KINDS:
        view.replace(kind, of_kind(kind, case.objects))
    return view
