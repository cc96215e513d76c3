"""Which extended resources are GPUs: by the pattern of their names, never by a fixed list.

Input: names in a node's capacity and in pods' requests. Output: a Unit, which says whose it is and
where its labels are; None for everything else.

Names by vendor: NVIDIA and AMD device plugins (their READMEs), the Intel GPU plugin. Of unknown
vendors a last word that ends in "gpu" or "gpus" counts, unless other words say that it measures a
part of a GPU (memory, cores): those are noted, not counted, for 44 "gpu-mem" are not 44 GPUs.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

NVIDIA, AMD, INTEL = "nvidia", "amd", "intel"

_SHARED = ".shared"
_MIG = re.compile(r"mig-((?:\d+c\.)?\d+g\.\d+gb)((?:\.[a-z]+)*)")
_AMD_PARTITION = re.compile(r"[a-z]+_nps\d+")
_INTEL_MEASURES = re.compile(r".*_monitoring|millicores|tiles|memory\.max")
_MEASURES = frozenset(
    ("mem", "memory", "core", "cores", "compute", "percent", "percentage", "count", "tiles")
)


@dataclass(frozen=True, slots=True)
class Unit:
    """What 1 of a resource is. `label` is the prefix of the labels that describe it."""

    resource: str
    vendor: str
    label: str
    profile: str = ""  # of a partition: "1g.5gb", "cpx_nps4"
    shared: bool = False  # its name says that several share one device


@lru_cache(maxsize=4096)
def unit_of(resource: str) -> Unit | None:
    """Return what a resource is, or None if it is no GPU."""
    domain, _, name = resource.partition("/")
    if not domain or not name or domain == "kubernetes.io" or domain.endswith(".kubernetes.io"):
        return None
    if domain == "nvidia.com" and (unit := _nvidia(resource, name)):
        return unit
    if domain == "amd.com" and _AMD_PARTITION.fullmatch(name):
        return Unit(resource, AMD, "amd.com/gpu", profile=name)
    if domain == "gpu.intel.com":
        return None if _INTEL_MEASURES.fullmatch(name) else Unit(resource, INTEL, domain)
    words = re.split(r"[._-]", name.lower())
    if _MEASURES.intersection(words) or not any(w.endswith(("gpu", "gpus")) for w in words):
        return None
    return Unit(resource, vendor_of(domain), resource)


def _nvidia(resource: str, name: str) -> Unit | None:
    plain = name.removesuffix(_SHARED)
    if plain == "gpu":
        return Unit(resource, NVIDIA, "nvidia.com/gpu", shared=plain != name)
    if found := _MIG.fullmatch(plain):
        profile = found[1] + found[2].replace(".", "+", 1)
        return Unit(resource, NVIDIA, f"nvidia.com/{plain}", profile, shared=plain != name)
    return None


def vendor_of(domain: str) -> str:
    """Return who stands behind a domain: "nvidia" of gpu.nvidia.com."""
    parts = domain.lower().split(".")
    return parts[-2] if len(parts) > 1 else parts[0]


@lru_cache(maxsize=4096)
def is_measure(resource: str) -> bool:
    """Return whether a resource measures parts of GPUs, so that its numbers are no units."""
    domain, slash, name = resource.partition("/")
    if not slash or unit_of(resource) is not None or domain.endswith("kubernetes.io"):
        return False
    return domain != "gpu.intel.com" and "gpu" in name.lower()


@lru_cache(maxsize=4096)
def is_gpu_name(name: str) -> bool:
    """Return whether a driver or device class calls itself one of GPUs: "gpu.nvidia.com"."""
    return any(w.endswith(("gpu", "gpus")) or w == "mig" for w in re.split(r"[./_-]", name.lower()))
