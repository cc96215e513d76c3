"""What NVIDIA's driver errors (XIDs) say about a GPU: can it still be used?

Input: a code. Output: words, and one of three effects. Source: the column "immediate action" and
the trigger conditions of the XID catalog for Ampere and newer,
https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
"""

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What a code means for new work on the GPU."""

    UNUSABLE = "unusable"  # nothing runs well before a reset, a reboot or a repair
    APPLICATION = "application"  # the application that ran into it has to start again, no more
    NOTED = "noted"  # worth knowing; the GPU works on


@dataclass(frozen=True, slots=True)
class Xid:
    """One code."""

    code: int
    words: str
    effect: Effect

    def __str__(self) -> str:
        return f"XID {self.code}: {self.words}"


_RESET = "needs a reset"
_UNUSABLE = {
    46: f"the GPU stopped processing, {_RESET}",
    48: f"an uncorrected memory error, {_RESET}",
    54: "auxiliary power is not connected",
    62: f"its microcontroller halted, {_RESET}",
    64: f"remapping of bad memory failed, {_RESET}",
    74: f"an NVLink error, {_RESET}",
    79: "fallen off the bus, its host needs a restart",
    95: f"a memory error that was not contained, {_RESET}",
    109: f"switching between contexts timed out, {_RESET}",
    110: f"a security fault, {_RESET}",
    119: f"its system processor does not answer, {_RESET}",
    120: f"an error of its system processor, {_RESET}",
    136: f"link training failed, {_RESET}",
    140: f"an ECC error without recovery, {_RESET}",
    143: f"it failed to initialise, {_RESET}",
    151: "key rotation failed, its virtual machine needs a restart",
    155: f"an NVLink went down, {_RESET}",
    156: f"broken parts wait to be retired, {_RESET}",
    158: f"a fatal timeout, {_RESET}",
    167: "a fatal PCIe timeout",
    169: f"its security processor halted, {_RESET}",
}
_COPY_ENGINES = (39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136))
_VIDEO = (60, 68, 82, 83, 84, 86, 88, 89, *range(96, 106), 139)
_APPLICATION = {
    8: "the GPU stopped processing for an application",
    11: "an invalid command stream",
    13: "an exception in an application's kernel",
    25: "an illegal command stream",
    31: "a memory page fault of an application",
    32: "a corrupted command stream",
    43: "an application was stopped",
    45: "an application was cleaned up",
    69: "an error of an application's graphics class",
    80: "corrupted data was sent to the GPU",
    94: "a memory error, contained to one application",
    137: "an illegal access over NVLink by an application",
    **dict.fromkeys(_COPY_ENGINES, "an exception of a copy engine"),
    **dict.fromkeys(_VIDEO, "an exception of a video engine"),
}
_NOTED = {
    14: "an error injected by a test",
    37: "an error of the driver's firmware",
    38: "the driver's firmware timed out",
    44: "a fault during a context switch",
    63: "bad memory was remapped",
    66: "an illegal access by the driver",
    67: "an illegal access by the driver",
    78: "a virtual GPU did not start",
    92: "many corrected memory errors",
    93: "too many erasures of its information store",
    106: "a test message",
    107: "a test message",
    108: "an NVLink translation error at the other end",
    121: "corrected errors between GPU and CPU",
    141: "an error in CUDA's fast path",
    154: "the action for recovery changed",
    157: "nothing is left to retire broken parts to",
    160: "a channel was retired",
    161: "a channel could not be retired",
}
_WORDS = {
    Effect.UNUSABLE: _UNUSABLE,
    Effect.APPLICATION: _APPLICATION,
    Effect.NOTED: _NOTED,
}
KNOWN = {
    code: Xid(code, words, effect)
    for effect, table in _WORDS.items()
    for code, words in table.items()
}


def xid(code: int) -> Xid:
    """Return what a code means. One that is not listed is noted: on its own it stops nothing, since
    the drivers that know newer codes also tell what a GPU needs to recover."""
    return KNOWN.get(code) or Xid(code, "not in the table", Effect.NOTED)
