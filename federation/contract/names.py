"""Names and references: what is allowed, how they are parsed, and which name was perhaps meant.

Input: strings from users and peers. Output: checked values, or Invalid with the remedy.
"""

import difflib
import re
from collections.abc import Iterable

from federation.contract.errors import Invalid

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can name a cluster, region, deployment or alias (RFC 1123 label)."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot name a {kind}.",
            hint="Use 1 to 63 lower-case letters, digits and '-', not '-' first or last.",
        )
    return name


def check_model_name(name: str) -> str:
    """Return `name` if it can name a model; '..' and '--' are refused, since it becomes a path."""
    if not _MODEL_NAME.fullmatch(name) or ".." in name or "--" in name:
        raise Invalid(
            f"{name!r} cannot name a model.",
            hint="Use 1 to 63 letters, digits, '.', '_' and '-', but not '..' or '--'.",
        )
    return name


def split_reference(reference: str) -> tuple[str, str]:
    """Split `model` or `model@version-or-alias` into its two parts; the second may be empty."""
    model, _, wanted = reference.partition("@")
    return model, wanted


def near_misses(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the known names most like `name`, best first."""
    return difflib.get_close_matches(name, sorted(known), n=limit, cutoff=0.6)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that offers near misses, else names what there is."""
    candidates = sorted(known)
    if near := near_misses(name, candidates):
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    if candidates:
        shown = ", ".join(candidates[:8]) + (", ..." if len(candidates) > 8 else "")
        return f"There are: {shown}."
    return "There are none yet."
