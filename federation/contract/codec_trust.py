"""Whom to trust, and who may ask, as protobuf; a part of `federation.contract.codec`.

Input and output: values of `contract.trust` and `contract.access`, messages of the .proto file.
"""

from datetime import UTC, datetime

from federation.contract import access as a
from federation.contract import trust as tr
from federation.contract.v1 import federation_pb2 as pb


def utc_or_none(milliseconds: int) -> datetime | None:
    """The agent's clock is only displayed: a value outside of the calendar is no value."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
    except (OverflowError, OSError, ValueError):
        return None


def access_to_proto(access: a.Access) -> pb.Access:
    """Encode who may send inference requests."""
    return pb.Access(
        pepper=access.pepper,
        tenants=[
            pb.Tenant(
                name=tenant.name,
                models=tenant.models,
                residency=tenant.residency,
                requests_per_minute=tenant.requests_per_minute,
                tokens_per_minute=tenant.tokens_per_minute,
                max_concurrent=tenant.max_concurrent,
            )
            for tenant in access.tenants
        ],
        keys=[
            pb.ApiKey(
                id=key.id,
                tenant=key.tenant,
                digest=key.digest,
                expires_at_unix=int(key.expires_at.timestamp()) if key.expires_at else 0,
            )
            for key in access.keys
        ],
    )


def access_from_proto(message: pb.Access) -> a.Access:
    """Decode who may send inference requests."""
    return a.Access(
        pepper=message.pepper,
        tenants=tuple(
            a.Tenant(
                name=tenant.name,
                models=tuple(tenant.models),
                residency=tuple(tenant.residency),
                requests_per_minute=tenant.requests_per_minute,
                tokens_per_minute=tenant.tokens_per_minute,
                max_concurrent=tenant.max_concurrent,
            )
            for tenant in message.tenants
        ),
        keys=tuple(
            a.ApiKey(
                id=key.id,
                tenant=key.tenant,
                digest=key.digest,
                expires_at=utc_or_none(key.expires_at_unix * 1000),
            )
            for key in message.keys
        ),
    )


def trust_to_proto(trust: tr.Trust) -> pb.Trust:
    """Encode whom to trust."""
    return pb.Trust(
        version=trust.version,
        trust_domain=trust.trust_domain,
        roots=trust.roots,
        revoked=[pb.Revocation(uri=r.uri, below=r.below) for r in trust.revoked],
        release_keys=trust.release_keys,
    )


def trust_from_proto(message: pb.Trust) -> tr.Trust:
    """Decode whom to trust."""
    return tr.Trust(
        version=message.version,
        trust_domain=message.trust_domain,
        roots=tuple(message.roots),
        revoked=tuple(tr.Revocation(uri=r.uri, below=r.below) for r in message.revoked),
        release_keys=tuple(message.release_keys),
    )


def routers_to_proto(routers: tuple[tr.RouterAddress, ...]) -> pb.RouterAddresses:
    """Encode the routers that reverse connections go to."""
    return pb.RouterAddresses(
        routers=[pb.RouterAddress(name=r.name, reverse_address=r.reverse_address) for r in routers]
    )


def routers_from_proto(message: pb.RouterAddresses) -> tuple[tr.RouterAddress, ...]:
    """Decode the routers that reverse connections go to."""
    return tuple(
        tr.RouterAddress(name=r.name, reverse_address=r.reverse_address) for r in message.routers
    )
