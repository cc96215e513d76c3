"""Identity and history of one object.

Input: made by Step. Output: part of every record that people see.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Identity and history of one object.

    `generation` counts changes of the spec; `resource_version` is the store revision of the last
    change of any part, which a client sends back for optimistic concurrency.
    """

    name: str
    generation: int
    resource_version: int
    created_at: datetime
