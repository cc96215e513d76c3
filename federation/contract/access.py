"""Who may do what: roles of people and programs, and tenants with their keys as routers hold them.

Input: built by the control plane's deciders. Output: `Access` travels in the routing snapshot, so
that a router checks a key without a call to anybody. 0 means no limit; an empty tuple means no
restriction.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What people and programs may be at the operator API; each includes what VIEWER may."""

    VIEWER = "viewer"  # reads everything but secrets
    MODEL_OWNER = "model-owner"  # pushes, deploys and removes its models
    OPERATOR = "operator"  # registers and runs the clusters of its regions
    ADMIN = "admin"  # everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role, limited to models (shell patterns) or regions where the role knows such a limit."""

    role: Role
    models: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A paying user of the endpoint. Its limits hold per router, over all of its keys together."""

    name: str
    models: tuple[str, ...] = ()  # allowed models, shell patterns ("llama-*"); empty = all
    residency: tuple[str, ...] = ()  # regions in which its requests may be served; empty = all
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_concurrent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A tenant's key. `digest` is hex HMAC-SHA256(pepper, the whole key text)."""

    id: str
    tenant: str
    digest: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """All tenants and their valid keys. `pepper` (hex) is secret: it never leaves routers' memory
    and their snapshot file (mode 0600)."""

    pepper: str = field(default="", repr=False)
    tenants: tuple[Tenant, ...] = ()
    keys: tuple[ApiKey, ...] = ()
