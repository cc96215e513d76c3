"""The tables of `fed get`: which columns each kind has, and how a document fills them.

Input: documents of the operator API. Output: short texts; an unhealthy row ends with the reason in
words. A missing value becomes "-" in the table.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from federation.cli.cells import age, duration, parse_time, shown, size, snapshot, text
from federation.cli.cells_rollout import (
    canary_weights,
    deployment_rollout,
    freeze,
    from_to,
    rollout_reason,
    wave_of,
)
from federation.cli.documents import Json, look, look_list, look_map, name_of
from federation.cli.load import condition_words, percent
from federation.cli.output import Column

# ------------------------------------------------------------ clusters


def _gpus(document: Json, _now: datetime) -> str:
    products = look_map(document, "status", "gpu_products")
    named = ",".join(f"{count}x{product}" for product, count in products.items())
    return named or shown(look(document, "status", "gpus"))


def _cluster_models(document: Json, _now: datetime) -> str:
    models = look_map(document, "status", "models")
    return f"{models.get('warm', 0)}/{models.get('assigned', 0)}" if models else ""


def _rtt(document: Json, _now: datetime) -> str:
    measured = [ms for ms in look_map(document, "status", "rtt_ms").values() if ms]
    return f"{min(measured):.0f}ms" if measured else ""


def _rtt_each(document: Json, _now: datetime) -> str:
    each = look_map(document, "status", "rtt_ms")
    return ",".join(f"{router}={ms:.0f}ms" for router, ms in each.items() if ms)


def _cluster_reason(document: Json, _now: datetime) -> str:
    words = [condition_words(document)]
    scheduling = look(document, "status", "scheduling")
    if scheduling == "cordoned":
        words.append("cordoned: receives no new models")
    elif scheduling == "draining":
        words.append("draining: receives no traffic and no new models")
    return "; ".join(word for word in words if word)


def _utilization(document: Json, _now: datetime) -> str:
    return percent(look(document, "status", "capacity", "utilization"))


def _in_flight(document: Json, _now: datetime) -> str:
    versions = look_list(document, "status", "versions")
    return str(sum(look(each, "in_flight") or 0 for each in versions))


def _last_report(document: Json, _now: datetime) -> str:
    seconds = look(document, "status", "last_report_s")
    return f"{duration(seconds)} ago" if isinstance(seconds, int | float) else ""


# ------------------------------------------------------------ models and deployments


def _versions(document: Json, _now: datetime) -> str:
    return ",".join(shown(look(v, "version")) for v in look_list(document, "status", "versions"))


def _runtime(document: Json, _now: datetime) -> str:
    return shown(look(newest(document), "runtime"))


def newest(document: Json) -> Json:
    """Return the entry of a model's latest version, or an empty one."""
    latest = look(document, "status", "latest")
    entries = look_list(document, "status", "versions")
    return next((v for v in entries if look(v, "version") == latest), {})


def _regions(document: Json, _now: datetime) -> str:
    return shown(look(document, "spec", "regions")) or "all"


def _wanted_replicas(document: Json, _now: datetime) -> str:
    scaling = look_map(document, "spec", "scaling")
    if scaling.get("mode", "fixed") == "fixed":
        return shown(look(document, "spec", "replicas"))
    return f"{scaling.get('min')}-{scaling.get('max')} ({scaling['mode']})"


def _deployed_version(document: Json, _now: datetime) -> str:
    wished = shown(look(document, "spec", "version"))
    resolved = shown(look(document, "status", "version"))
    if wished and not wished.isdigit() and resolved:
        return f"{resolved} ({wished})"
    return resolved or wished


def _warm(document: Json, _now: datetime) -> str:
    if look(document, "status", "asleep_since"):
        return "asleep"
    return f"{shown(look(document, 'status', 'warm'))}/{shown(look(document, 'status', 'wanted'))}"


def deployment_reason(document: Json) -> str:
    """Return why a deployment is not ready, in words: refusals, failures, then progress."""
    words = [
        f"{look(each, 'cluster')}: {look(each, 'reason')}"
        for each in look_list(document, "status", "cannot")
    ]
    if look(document, "status", "asleep_since"):
        return "; ".join([*words, shown(look(document, "status", "reason"))])
    waiting = []
    for cluster in look_list(document, "status", "clusters"):
        for version in look_list(cluster, "versions"):
            state, why = look(version, "state"), look(version, "reason")
            what = f"{look(cluster, 'cluster')}: version {look(version, 'version')} is {state}"
            if state == "failed":
                words.append(f"{what}: {why}")
            elif state != "warmed":
                waiting.append(f"{what}: {why}" if why else what)
    return "; ".join(words + waiting) or shown(look(document, "status", "reason"))


def _deployment_reason(document: Json, _now: datetime) -> str:
    refused = look_list(document, "status", "cannot")
    asleep = look(document, "status", "asleep_since")
    words = [deployment_rollout(document)]
    if not look(document, "status", "ready") or refused or asleep:
        words.append(deployment_reason(document))
    return "; ".join(word for word in words if word)


def prefetch_reason(document: Json) -> str:
    """Return why a prefetch is not ready, in words: refusals, then what each cluster lacks."""
    words = [
        f"{look(each, 'cluster')}: {look(each, 'reason')}"
        for each in look_list(document, "status", "cannot")
    ]
    for each in look_list(document, "status", "clusters"):
        if not look(each, "ready"):
            why = look(each, "reason") or f"is {look(each, 'state')}"
            words.append(f"{look(each, 'cluster')}: {why}")
    return "; ".join(words) or shown(look(document, "status", "reason"))


def _prefetch_reason(document: Json, _now: datetime) -> str:
    refused = look_list(document, "status", "cannot")
    return "" if look(document, "status", "ready") and not refused else prefetch_reason(document)


def _ready_at(document: Json, _now: datetime) -> str:
    status = look_map(document, "status")
    return f"{shown(status.get('ready_at'))}/{shown(status.get('wanted'))}"


# ------------------------------------------------------------ routers, regions, events


def _router_clusters(document: Json, _now: datetime) -> str:
    seen = look_map(document, "status", "clusters").values()
    return f"{sum(bool(look(each, 'healthy')) for each in seen)}/{len(seen)}"


def _place(*path: str) -> Callable[[Json, datetime], str]:
    def cell(document: Json, _now: datetime) -> str:
        found = look_map(document, *path)
        return f"{found['latitude']},{found['longitude']}" if len(found) >= 2 else ""

    return cell


def _no_member(document: Json) -> str:
    """Return why a router is no member of the federation (yet), or ""."""
    status = look_map(document, "status")
    if status.get("revoked"):
        return "its membership was revoked"
    if status.get("joined") is False:
        return "it has not joined yet"
    return "it waits for an operator" if status.get("accepted") is False else ""


def _router_reason(document: Json, _now: datetime) -> str:
    words = [_no_member(document), shown(look(document, "status", "rejection"))]
    if look(document, "status", "allow_anonymous"):
        words.append("serves requests without a key")
    words += [
        f"{cluster}: {look(each, 'reason') or 'unhealthy'}"
        for cluster, each in look_map(document, "status", "clusters").items()
        if not look(each, "healthy")
    ]
    return "; ".join(word for word in words if word)


def _event_object(document: Json, _now: datetime) -> str:
    kind, name = look(document, "status", "kind"), look(document, "status", "name")
    return f"{str(kind).lower()}/{name}" if kind else shown(name)


def _event_time(document: Json, _now: datetime) -> str:
    at = parse_time(look(document, "status", "at"))
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def _or(otherwise: str, *path: str) -> Callable[[Json, datetime], str]:
    """Return a cell that shows the value at `path`, or a word where there is none or 0."""
    return lambda document, _now: shown(look(document, *path) or None) or otherwise


def _key_purpose(document: Json, _now: datetime) -> str:
    if tenant := look(document, "status", "tenant"):
        return f"tenant {tenant}"
    told = []
    for grant in look_list(document, "status", "grants"):
        scope = ",".join(map(str, [*look_list(grant, "regions"), *look_list(grant, "models")]))
        told.append(f"{look(grant, 'role')}{f' of {scope}' if scope else ''}")
    return " and ".join(told)


def _key_expiry(document: Json, _now: datetime) -> str:
    if look(document, "status", "expired"):
        return "expired"
    return str(look(document, "status", "expires_at") or "never")


_UNITS = ("status", "capacity", "units")
_NAME = Column("NAME", lambda document, _now: name_of(document))
_AGE = Column("AGE", age)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "Region": (
        _NAME,
        Column("LOCATION", _place("spec", "location")),
        _AGE,
        Column("TIME-ZONE", text("spec", "time_zone"), wide=True),
        Column("FREEZE", freeze, wide=True),
    ),
    "Cluster": (
        _NAME,
        Column("REGION", text("spec", "region")),
        Column("ENGINE", text("status", "engine", "kind")),
        Column("READY", text("status", "ready")),
        Column("GPUS", _gpus),
        Column("MODELS", _cluster_models),
        Column("RTT", _rtt),
        _AGE,
        Column("UNITS", text(*_UNITS, "total"), wide=True),
        Column("ALLOCATABLE", text(*_UNITS, "allocatable"), wide=True),
        Column("FREE", text(*_UNITS, "free"), wide=True),
        Column("LARGEST-BLOCK", text(*_UNITS, "largest_block"), wide=True),
        Column("UTIL", _utilization, wide=True),
        Column("URL", text("status", "url"), wide=True),
        Column("CONNECTIVITY", text("spec", "connectivity"), wide=True),
        Column("ENGINE-VERSION", text("status", "engine", "version"), wide=True),
        Column("SCHEDULING", text("status", "scheduling"), wide=True),
        Column("EPOCH", text("status", "lease", "epoch"), wide=True),
        Column("LAST-REPORT", _last_report, wide=True),
        Column("IN-FLIGHT", _in_flight, wide=True),
        Column("RTTS", _rtt_each, wide=True),
        Column("LABELS", text("spec", "labels"), wide=True),
        Column("REASON", _cluster_reason),
    ),
    "Model": (
        _NAME,
        Column("LATEST", text("status", "latest")),
        Column("VERSIONS", _versions),
        Column("ALIASES", text("spec", "aliases")),
        Column("RUNTIME", _runtime),
        Column("PROTOCOL", lambda d, _now: shown(look(newest(d), "protocol")), wide=True),
        Column("SIZE", lambda d, _now: size(look(newest(d), "size") or 0), wide=True),
        Column("DIGEST", lambda d, _now: shown(look(newest(d), "digest"))[:12], wide=True),
        _AGE,
        Column("DESCRIPTION", text("spec", "description"), wide=True),
    ),
    "Deployment": (
        _NAME,
        Column("MODEL", text("spec", "model")),
        Column("VERSION", _deployed_version),
        Column("REGIONS", _regions),
        Column("WARM", _warm),
        Column("READY", text("status", "ready")),
        Column("ROUTED", text("status", "routed_version"), wide=True),
        Column("PINNED", text("spec", "pinned_versions"), wide=True),
        Column("REPLICAS", _wanted_replicas, wide=True),
        Column("RESIDENCY", text("spec", "residency"), wide=True),
        _AGE,
        Column("REASON", _deployment_reason),
    ),
    "Rollout": (
        _NAME,
        Column("MODEL", text("spec", "model")),
        Column("VERSIONS", from_to),
        Column("PHASE", text("status", "phase")),
        Column("WAVE", wave_of),
        Column("TRAFFIC", canary_weights),
        _AGE,
        Column("BY", text("status", "started_by"), wide=True),
        Column("NEXT", text("status", "next"), wide=True),
        Column("REASON", rollout_reason),
    ),
    "Prefetch": (
        _NAME,
        Column("MODEL", text("spec", "model")),
        Column("VERSION", text("spec", "version")),
        Column("REGIONS", _regions),
        Column("AT", _ready_at),
        Column("READY", text("status", "ready")),
        Column("SIZE", lambda d, _now: size(look(d, "status", "size") or 0)),
        _AGE,
        Column("REASON", _prefetch_reason),
    ),
    "Router": (
        _NAME,
        Column("URL", text("status", "url")),
        Column("CONNECTED", text("status", "connected")),
        Column("SNAPSHOT", lambda d, _now: snapshot(look(d, "status", "snapshot_version"))),
        Column("REQUESTS", text("status", "requests_total")),
        Column("ERRORS", text("status", "errors_total"), wide=True),
        Column("LOCATION", _place("status", "location"), wide=True),
        Column("REVERSE", text("status", "reverse_address"), wide=True),
        Column("CLUSTERS", _router_clusters),
        Column("REASON", _router_reason),
    ),
    "Tenant": (
        _NAME,
        Column("MODELS", _or("all", "spec", "models")),
        Column("RESIDENCY", _or("anywhere", "spec", "residency")),
        Column("REQUESTS/MIN", _or("", "spec", "requests_per_minute")),
        Column("TOKENS/MIN", _or("", "spec", "tokens_per_minute")),
        Column("AT-ONCE", _or("", "spec", "max_concurrent")),
        Column("KEYS", lambda d, _now: str(len(look_list(d, "status", "keys")))),
        _AGE,
        Column("KEY-NAMES", text("status", "keys"), wide=True),
        Column("REASON", text("status", "reason")),
    ),
    "Key": (
        _NAME,
        Column("FOR", _key_purpose),
        Column("EXPIRES", _key_expiry),
        Column("MADE-BY", text("status", "created_by")),
        _AGE,
    ),
    "Event": (
        Column("AT", _event_time),
        Column("OBJECT", _event_object),
        Column("REASON", text("status", "reason")),
        Column("ACTOR", text("status", "actor")),
        Column("ID", lambda document, _now: name_of(document), wide=True),
        Column("MESSAGE", text("status", "message")),
    ),
}


def columns_of(kind: str, *, wide: bool) -> list[Column]:
    """Return the columns of a kind."""
    return [column for column in COLUMNS[kind] if wide or not column.wide]


def row(columns: list[Column], document: Json, now: datetime) -> list[str]:
    """Return the cells of one document."""
    return [column.cell(document, now) for column in columns]
