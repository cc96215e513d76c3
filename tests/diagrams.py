"""Draws the state diagrams of ARCHITECTURE.md from the transition tables.

Input: the tables themselves. Output: Mermaid text between two markers; `python -m tests.diagrams
--write` puts it there, and tests/test_diagrams.py compares.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge_agent.policy import lifecycle, session
from federation.kube import watching
from federation.policy import roots
from federation.policy.rollouts import table
from router.policy import breaker

PAGE = Path(__file__).resolve().parents[1] / "ARCHITECTURE.md"
BEGIN, END = "<!-- diagrams:begin -->\n", "<!-- diagrams:end -->\n"

# From (state, step) to state; a Mapping's keys are invariant, so each table's own types are lost.
Table = Mapping[Any, StrEnum | None]
TABLES: dict[str, Table] = {
    "A model version at a cluster (`edge_agent/policy/lifecycle.py`)": lifecycle.TRANSITIONS,
    "An agent's link to the control plane (`edge_agent/policy/session.py`)": session.TRANSITIONS,
    "One kind of Kubernetes objects (`federation/kube/watching.py`)": watching.TRANSITIONS,
    "A rollout (`federation/policy/rollouts/table.py`)": table.TRANSITIONS,
    "A root of trust (`federation/policy/roots.py`)": roots.TRANSITIONS,
    "A router's breaker for a cluster (`router/policy/breaker.py`)": breaker.TRANSITIONS,
}


def _name(state: StrEnum | None) -> str:
    return "[*]" if state is None else state.value.replace("-", "_")


def mermaid(table: Table) -> str:
    """Return one state diagram; transitions between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, step), target in table.items():
        arrows.setdefault((_name(state), _name(target)), []).append(step.value)
    lines = [f"    {a} --> {b}: {', '.join(steps)}" for (a, b), steps in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def section() -> str:
    """Return all diagrams with their headings."""
    return "\n".join(f"### {title}\n\n{mermaid(table)}\n" for title, table in TABLES.items())


def page_with_diagrams(page: str) -> str:
    """Return `page` with what lies between the markers drawn anew."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{section()}\n{END}{tail}"


if __name__ == "__main__":
    drawn = page_with_diagrams(PAGE.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        PAGE.write_text(drawn, encoding="utf-8")
    else:
        print(drawn)
