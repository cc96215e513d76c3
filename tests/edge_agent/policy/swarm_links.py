"""Links of the simulated region, and the flows that share them fairly."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Link:
    """A link's rate in bytes/s, and the flows that share it."""

    rate: float
    flows: dict["Flow", None] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return self.rate / max(1, len(self.flows))


@dataclass(eq=False)
class Flow:
    links: tuple[Link, Link]
    left: float
    done: Callable[[], None]
    stopped: Callable[[], None]
    rate: float = 0.0
    at: float = 0.0
    began: float = 0.0
    version: int = 0
