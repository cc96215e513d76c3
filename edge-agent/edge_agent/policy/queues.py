"""How many requests wait inside an engine, as its metrics tell. Pure.

Input: pages of Prometheus text. Output: requests by model version; of a version that a page does
not tell of nothing is known.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
https://docs.ray.io/en/latest/serve/monitoring.html
"""

import math
import re
from collections.abc import Iterable, Iterator

from edge_agent.policy.events import Key

TRITON_PENDING = "nv_inference_pending_request_count"
RAY_QUEUED = "ray_serve_deployment_queued_queries"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NAMED = re.compile(r"(.+)--v(\d{1,18})")  # the engine-side name of a version


def queued_of_triton(page: str) -> dict[Key, int]:
    """Return how many requests of each of our versions wait to be executed."""
    return _sums(page, TRITON_PENDING, "model")


def queued_of_ray(pages: Iterable[str]) -> dict[Key, int]:
    """Return how many requests of each of our versions wait for a replica, over all nodes."""
    found: dict[Key, int] = {}
    for page in pages:
        for key, count in _sums(page, RAY_QUEUED, "application").items():
            found[key] = found.get(key, 0) + count
    return found


def _sums(page: str, metric: str, label: str) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for labels, value in _samples(page, metric):
        name = _NAMED.fullmatch(labels.get(label, ""))
        if name is not None and math.isfinite(value) and value >= 0:
            key = (name[1], int(name[2]))
            found[key] = found.get(key, 0) + int(value)
    return found


def _samples(page: str, metric: str) -> Iterator[tuple[dict[str, str], float]]:
    """Yield the samples of one metric. The parser of the client library would read all of a page,
    which takes it a tenth of a second of Ray's."""
    for line in page.splitlines():
        if not line.startswith(f"{metric}{{"):
            continue
        labels, _, rest = line[len(metric) + 1 :].rpartition("}")
        try:
            yield dict(_LABEL.findall(labels)), float(rest.split()[0])
        except (ValueError, IndexError):
            continue
