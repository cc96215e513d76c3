"""Moving model bytes as protobuf; a part of `federation.contract.codec`.

Input and output: values of `contract.sync`, messages of the .proto file. What a newer peer adds
(days, urgencies that we don't know) is passed over.
"""

from federation.contract import sync as s
from federation.contract.types import Urgency
from federation.contract.v1 import federation_pb2 as pb

_URGENCIES = {
    Urgency.PREFETCH: pb.URGENCY_PREFETCH,
    Urgency.NORMAL: pb.URGENCY_UNSPECIFIED,
    Urgency.ROLLBACK: pb.URGENCY_ROLLBACK,
}
_DAYS = {day.value: day for day in s.Day}


def urgency_to_proto(urgency: Urgency) -> "pb.Urgency.ValueType":
    """Encode which transfer goes first."""
    return pb.Urgency.ValueType(_URGENCIES[urgency])


def urgency_from_proto(value: int) -> Urgency:
    """Decode which transfer goes first."""
    return next((name for name, n in _URGENCIES.items() if n == value), Urgency.NORMAL)


def settings_to_proto(spec: s.SyncSpec) -> pb.SyncSettings:
    """Encode how a cluster fetches."""
    return pb.SyncSettings(
        max_mbytes_per_second=spec.max_mbytes_per_second,
        peer_max_mbytes_per_second=spec.peer_max_mbytes_per_second,
        windows=[
            pb.SyncWindow(
                start=w.start,
                end=w.end,
                days=[day.value for day in w.days],
                max_mbytes_per_second=w.max_mbytes_per_second,
            )
            for w in spec.windows
        ],
        time_zone=spec.time_zone,
        disk_budget_gib=spec.disk_budget_gib,
        rollback_waits=spec.rollback_waits,
    )


def settings_from_proto(message: pb.SyncSettings) -> s.SyncSpec:
    """Decode how a cluster fetches."""
    return s.SyncSpec(
        max_mbytes_per_second=message.max_mbytes_per_second,
        peer_max_mbytes_per_second=message.peer_max_mbytes_per_second,
        windows=tuple(
            s.SyncWindow(
                start=w.start,
                end=w.end,
                days=tuple(_DAYS[day] for day in w.days if day in _DAYS),
                max_mbytes_per_second=w.max_mbytes_per_second,
            )
            for w in message.windows
        ),
        time_zone=message.time_zone or "UTC",
        disk_budget_gib=message.disk_budget_gib,
        rollback_waits=message.rollback_waits,
    )


def peers_to_proto(peers: tuple[s.SyncPeer, ...]) -> pb.SyncPeers:
    """Encode the clusters of a region that share packages."""
    return pb.SyncPeers(
        peers=[pb.SyncPeer(cluster=p.cluster, url=p.url, digests=p.digests) for p in peers]
    )


def peers_from_proto(message: pb.SyncPeers) -> tuple[s.SyncPeer, ...]:
    """Decode the clusters of a region that share packages."""
    return tuple(
        s.SyncPeer(cluster=p.cluster, url=p.url, digests=tuple(p.digests)) for p in message.peers
    )


def progress_to_proto(progress: s.SyncProgress | None) -> pb.SyncProgress | None:
    """Encode how far a transfer is; None stays absent."""
    if progress is None:
        return None
    return pb.SyncProgress(
        total_bytes=progress.total_bytes,
        reused_bytes=progress.reused_bytes,
        from_origin_bytes=progress.from_origin_bytes,
        from_peers_bytes=progress.from_peers_bytes,
        done_bytes=progress.done_bytes,
        bytes_per_second=progress.bytes_per_second,
        eta_s=progress.eta_s,
        waiting=progress.waiting,
    )


def progress_from_proto(message: pb.SyncProgress) -> s.SyncProgress:
    """Decode how far a transfer is."""
    return s.SyncProgress(
        total_bytes=message.total_bytes,
        reused_bytes=message.reused_bytes,
        from_origin_bytes=message.from_origin_bytes,
        from_peers_bytes=message.from_peers_bytes,
        done_bytes=message.done_bytes,
        bytes_per_second=message.bytes_per_second,
        eta_s=message.eta_s,
        waiting=message.waiting,
    )


def disk_to_proto(disk: s.Disk) -> pb.Disk:
    """Encode where packages are kept."""
    return pb.Disk(
        used_bytes=disk.used_bytes, free_bytes=disk.free_bytes, budget_bytes=disk.budget_bytes
    )


def disk_from_proto(message: pb.Disk) -> s.Disk:
    """Decode where packages are kept."""
    return s.Disk(
        used_bytes=message.used_bytes,
        free_bytes=message.free_bytes,
        budget_bytes=message.budget_bytes,
    )
