"""What the control plane's own documents tell of the health of a federation.

Input: documents of clusters, routers and keys, the roots, this machine's version, the time. Output:
findings: one per thing that is not well, or one that all are.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from federation.cli.checks.finding import Finding, failed, ok, warning
from federation.cli.documents import Json, look

ROOT_SOON = timedelta(days=90)


def clusters(documents: Sequence[Json]) -> list[Finding]:
    """Look at each cluster: a member, connected, ready?"""
    found = [finding for document in documents if (finding := _cluster(document))]
    told = f"{len(documents)} of {len(documents)} are ready" if documents else "there are none yet"
    return found or [ok("clusters", told)]


def _cluster(document: Json) -> Finding | None:
    name, status = str(look(document, "metadata", "name")), document.get("status") or {}
    title = f"cluster {name}"
    if found := _member("cluster", name, status):
        return found
    if not status.get("ready"):
        return failed(
            title, str(status.get("reason") or "not ready"), f"fed describe cluster {name}"
        )
    return None


def _member(noun: str, name: str, status: Json) -> Finding | None:
    title = f"{noun} {name}"
    if status.get("revoked"):
        remedy = f"fed {noun} register {name} --rejoin, or remove it."
        return warning(title, "revoked", remedy)
    if not status.get("joined"):
        remedy = f"Paste the line of `fed {noun} register {name} --rejoin` there."
        return warning(title, "registered, never joined", remedy)
    if not status.get("accepted", True):
        return warning(title, "waits to be accepted", f"fed {noun} accept {name}")
    return None


def routers(documents: Sequence[Json]) -> list[Finding]:
    """Look at each router: a member, connected, on the newest snapshot?"""
    if not documents:
        return [failed("routers", "there is none", "fed router register NAME")]
    newest = max(_snapshot(document) for document in documents)
    found = [finding for document in documents if (finding := _router(document, newest))]
    return found or [ok("routers", f"{len(documents)} of {len(documents)} serve one snapshot")]


def _snapshot(document: Json) -> int:
    return int(look(document, "status", "snapshot_version") or 0)


def _router(document: Json, newest: int) -> Finding | None:
    name, status = str(look(document, "metadata", "name")), document.get("status") or {}
    title = f"router {name}"
    if found := _member("router", name, status):
        return found
    if not status.get("connected"):
        told = "out of contact; it serves what it last knew"
        return failed(title, told, "Look at its log, and whether the control plane is reachable.")
    if status.get("rejection"):
        return failed(title, f"refused a snapshot: {status['rejection']}", "Update it.")
    if _snapshot(document) < newest:
        return warning(title, "is behind the newest snapshot", "Look again in a moment.")
    return None


def versions(own: str, control_plane: str, others: Sequence[Json]) -> Finding:
    """Compare the software of this `fed`, the control plane and the routers."""
    told = {str(look(d, "status", "software_version") or "") for d in others}
    different = sorted({v for v in (*told, own) if v} - {control_plane})
    if different:
        seen = f"control plane {control_plane}, others {', '.join(different)}"
        return warning("versions", seen, "One minor version apart is supported, more is not.")
    return ok("versions", f"all {control_plane}")


def keys(documents: Sequence[Json], now: datetime) -> Finding:
    """Look for keys that never end, and those that have ended."""
    endless, over = [], []
    for document in documents:
        name, until = look(document, "metadata", "name"), _moment(document)
        if until is None:
            endless.append(str(name))
        elif until <= now:
            over.append(str(name))
    if over:
        return warning("keys", f"expired: {', '.join(over)}", "fed key revoke, or rotate them.")
    if endless:
        return warning("keys", f"never expire: {', '.join(endless)}", "Make them with --expires.")
    return ok("keys", f"all {len(documents)} have an end" if documents else "there are none")


def _moment(document: Json) -> datetime | None:
    for path in (("spec", "expiresAt"), ("status", "expires_at"), ("status", "expiresAt")):
        if text := look(document, *path):
            return datetime.fromisoformat(str(text))
    return None


def roots(document: Json, now: datetime) -> Finding:
    """Look how long the newest root of trust lasts."""
    ends = [str(r.get("notAfter") or "") for r in document.get("roots", ())]
    moments = [datetime.fromisoformat(end) for end in ends if end]
    if not moments:
        return warning("roots", "the control plane tells of none", "fed ca get")
    if max(moments) - now < ROOT_SOON:
        return failed("roots", f"the newest ends at {max(moments):%F}", "fed ca rotate")
    return ok("roots", f"{len(moments)}, the newest until {max(moments):%F}")
