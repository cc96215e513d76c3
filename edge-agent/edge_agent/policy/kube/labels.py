"""What the labels of a node say of its GPUs.

Input: labels of NVIDIA's GPU feature discovery, AMD's node labeller, Intel's rules for node feature
discovery. Output: a Description. Labels describe, they don't count: one product per node, written
by another program than the one that offers the devices. Numbers come from the node's status.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.policy.kube.fields import MIB
from edge_agent.policy.kube.names import AMD, INTEL, NVIDIA, Unit
from edge_agent.policy.kube.partitions import amd_parts
from federation.contract.capacity import Sharing

KEPT = ("nvidia.com/", "amd.com/", "beta.amd.com/", "gpu.intel.com/")

BROKEN_MIG = "MIG is set up wrongly: GPUs cut into different sizes, or not cut at all"

_INVALID = "INVALID"
_IN_PRODUCT = re.compile(r"(.+?)-MIG-(.+)")
_BETA = re.compile(r"beta\.amd\.com/gpu\.(product-name|vram)\.(.+)")
_VRAM = re.compile(r"(\d+)([GMT])")
_VRAM_MIB = {"M": 1, "G": 1024, "T": 1024 * 1024}
# LLVM targets: https://rocm.docs.amd.com/en/latest/reference/gpu-arch-specs.html
_AMD_ARCHITECTURES = (
    (re.compile(r"MI35"), "gfx950"),
    (re.compile(r"MI3"), "gfx942"),
    (re.compile(r"MI2"), "gfx90a"),
    (re.compile(r"MI100"), "gfx908"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What one unit of a resource is.

    `replicas` units share a device or partition, `parts` partitions make a device. `promised` is
    how many units there should be; 0 = the labels don't say.
    """

    product: str = ""
    memory_mib: int = 0
    architecture: str = ""
    compute_capability: str = ""
    profile: str = ""
    sharing: Sharing = Sharing.NONE
    replicas: int = 1
    parts: int = 1
    promised: int = 0
    broken: str = ""


def describe(unit: Unit, labels: Mapping[str, str], total: int) -> Description:
    """Return what the labels say of a resource of which a node has `total` units."""
    if unit.vendor == NVIDIA and unit.label.startswith("nvidia.com/"):
        return _nvidia(unit, labels)
    if unit.vendor == AMD:
        return _amd(unit, labels)
    if unit.vendor == INTEL:
        return _intel(labels, total)
    sharing = Sharing.UNKNOWN if unit.shared else Sharing.NONE
    return Description(profile=unit.profile, sharing=sharing)


def number(labels: Mapping[str, str], key: str) -> int:
    """Return the number that a label holds; 0 if it is absent or none."""
    value = labels.get(key, "")
    return int(value) if value.isdecimal() else 0


def bare(product: str) -> str:
    """Return a product without its vendor's name, which stands beside it."""
    return re.sub(r"^(NVIDIA|AMD)[-_ ]", "", product)


def _nvidia(unit: Unit, labels: Mapping[str, str]) -> Description:
    whole = "nvidia.com/gpu"
    product = labels.get(f"{unit.label}.product") or labels.get(f"{whole}.product", "")
    product, profile = product.removesuffix("-SHARED"), unit.profile
    broken = False
    if found := _IN_PRODUCT.fullmatch(product):
        product, broken = found[1], found[2] == _INVALID
        profile = profile or ("" if broken else found[2].replace(".me", "+me"))
    replicas = max(1, number(labels, f"{unit.label}.replicas"))
    sharing = Sharing.PARTITION if profile else Sharing.NONE
    memory_mib = number(labels, f"{unit.label}.memory")
    if replicas > 1 or unit.shared:
        sharing = Sharing.TIME_SLICING
        if labels.get(f"{whole}.sharing-strategy") == "mps":
            sharing, memory_mib = Sharing.MPS, memory_mib // replicas
    promised = number(labels, f"{unit.label}.count") * replicas
    if unit.label == whole and labels.get("nvidia.com/mig.strategy") == "mixed":
        promised = 0  # counts the GPUs that are cut as well
    family = labels.get(f"{whole}.family", "").lower()
    major = number(labels, f"{whole}.compute.major")
    return Description(
        product=bare(product),
        memory_mib=memory_mib,
        architecture="" if family == "undefined" else family,
        compute_capability=f"{major}.{number(labels, f'{whole}.compute.minor')}" if major else "",
        profile=profile,
        sharing=sharing,
        replicas=replicas,
        promised=promised,
        broken=BROKEN_MIG if broken else "",
    )


def _amd(unit: Unit, labels: Mapping[str, str]) -> Description:
    found = {"product-name": "", "vram": ""}
    for key, value in labels.items():
        if (old := _BETA.fullmatch(key)) and value != "0":
            found[old[1]] = old[2]
    product = labels.get("amd.com/gpu.product-name") or found["product-name"]
    vram = _VRAM.fullmatch(labels.get("amd.com/gpu.vram") or found["vram"])
    profile = unit.profile or labels.get("amd.com/compute-memory-partition", "")
    parts = amd_parts(profile, product)
    targets = (name for pattern, name in _AMD_ARCHITECTURES if pattern.search(product))
    return Description(
        product=bare(product),
        memory_mib=int(vram[1]) * _VRAM_MIB[vram[2]] // parts if vram else 0,
        architecture=next(targets, ""),
        profile=profile if parts > 1 else "",
        sharing=Sharing.PARTITION if parts > 1 else Sharing.NONE,
        parts=parts,
    )


def _intel(labels: Mapping[str, str], total: int) -> Description:
    prefix = "gpu.intel.com/"
    devices = number(labels, prefix + "device.count") or sum(
        number(labels, key)
        for key in labels
        if key.startswith(prefix + "device-id.") and key.endswith(".count")
    )
    shared = devices > 0 and total > devices and total % devices == 0
    memory = number(labels, prefix + "memory.max")  # bytes of all GPUs
    return Description(
        product=labels.get(prefix + "product", ""),
        memory_mib=memory // devices // MIB if devices else 0,
        sharing=Sharing.TIME_SLICING if shared else Sharing.NONE,
        replicas=total // devices if shared else 1,
    )
