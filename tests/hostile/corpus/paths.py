"""Paths: every way to an engine's administration, and every way to write a path so that it hides.

From the HTTP references of Triton (extensions: model repository, shared memory, logging, trace,
statistics, configuration) and of Ray (dashboard, jobs, Serve). None of them may reach an engine.
"""

from tests.hostile.corpus.payload import BODY, INFER, MEANT, Asked, Payload, request

_TRITON = (
    "POST /v2/repository/index",
    "POST /v2/repository/models/m/load",
    "POST /v2/repository/models/m/unload",
    "POST /v2/repository/models/m/versions/1/load",
    "POST /v2/repository/x/models/m/load",
    "GET /v2/systemsharedmemory/status",
    "GET /v2/systemsharedmemory/region/r/status",
    "POST /v2/systemsharedmemory/region/r/register",
    "POST /v2/systemsharedmemory/region/r/unregister",
    "POST /v2/systemsharedmemory/unregister",
    "GET /v2/cudasharedmemory/status",
    "POST /v2/cudasharedmemory/region/r/register",
    "POST /v2/cudasharedmemory/region/r/unregister",
    "POST /v2/cudasharedmemory/unregister",
    "GET /v2/logging",
    "POST /v2/logging",
    "GET /v2/trace/setting",
    "POST /v2/trace/setting",
    "POST /v2/models/m/trace/setting",
    "GET /v2/models/stats",
    "GET /v2/models/m/stats",
    "GET /v2/models/m/versions/1/stats",
    "GET /v2/models/m/config",
    "GET /v2/models/m/versions/1/config",
    "POST /v2/models/m/versions/1/load",
    "POST /v2/models/m/versions/1/unload",
    "POST /v2/models",
    "GET /v2/models",
    "GET /metrics",
    "POST /v2/models/m/versions/1/infer/",
    "POST /v2/models/m/versions/1/infer/../unload",
)
_RAY = (
    "GET /api/version",
    "GET /api/jobs/",
    "POST /api/jobs/",
    "DELETE /api/jobs/x",
    "POST /api/jobs/x/stop",
    "GET /api/jobs/x/logs",
    "POST /api/job_agent/jobs/",
    "PUT /api/packages/gcs/_ray_pkg_0.zip",
    "GET /api/serve/applications/",
    "PUT /api/serve/applications/",
    "DELETE /api/serve/applications/",
    "POST /api/v1/applications/a/deployments/d/scale",
    "GET /api/cluster_status",
    "GET /api/v0/actors",
    "GET /api/v0/logs/file?filename=raylet.out",
    "GET /api/actors/kill?actor_id=x",
    "GET /api/snapshot",
    "GET /api/component_activities",
    "GET /nodes?view=summary",
    "GET /worker/traceback?pid=1",
    "GET /logical/actors",
    "GET /log_proxy?url=http://169.254.169.254/",
    "GET /logs",
    "GET /events",
    "GET /-/routes",
    "GET /-/healthz",
    "GET /",
    "GET /index.html",
    "GET /m/infer",
    "POST /m--v1/v1/completions",
    "GET /docs",
    "GET /openapi.json",
)
_OURS = (
    "GET /api/v1/clusters",
    "POST /api/v1/clusters",
    "POST /api/v1/join",
    "GET /api/v1/keys",
    "GET /explain?model=m",
    "GET /debug/pprof",
    "GET /.git/config",
)
_HIDING = (
    ("dots", "/v2/models/m/../../repository/index"),
    ("dots-at-the-end", "/v2/models/m/versions/1/infer/.."),
    ("dot", "/v2/./models/m/versions/1/infer"),
    ("dots-as-model", "/v2/models/../infer"),
    ("dots-in-model", "/v2/models/m..n/infer"),
    ("dots-with-parameter", "/v2/models/m/..;/repository/index"),
    ("dots-escaped", "/v2/models/m/%2e%2e/%2E%2E/repository/index"),
    ("dots-half-escaped", "/v2/models/m/.%2e/index"),
    ("dots-escaped-twice", "/v2/models/m/%252e%252e/index"),
    ("dots-in-unicode", "/v2/models/m/%c0%ae%c0%ae/index"),
    ("slash-escaped", "/v2/models/m%2fversions%2f1%2finfer"),
    ("slash-escaped-twice", "/v2/models/m%252fversions/1/infer"),
    ("slash-in-unicode", "/v2/models/m%c0%afinfer"),
    ("slashes", "//v2/models/m/versions/1/infer"),
    ("slashes-inside", "/v2/models//m/versions/1/infer"),
    ("backslash", "\\v2\\models\\m\\infer"),
    ("backslash-escaped", "/v2/models/m%5c..%5cinfer"),
    ("backslash-inside", "/v2/models/m\\..\\/versions/1/infer"),
    ("nul-escaped", "/v2/models/m%00/versions/1/infer"),
    ("line-escaped", "/v2/models/m%0d%0aX:%20y/infer"),
    ("question-escaped", "/v2/models/m/versions/1/infer%3fx"),
    ("fragment", "/v2/models/m/versions/1/infer#x"),
    ("fragment-before", "/v2/models/m#/versions/1/infer"),
    ("letter-escaped", "/v2/models/%6d/versions/1/infer"),
    ("verb-escaped", "/v2/models/m/versions/1/inf%65r"),
    ("escape-broken", "/v2/models/m%/versions/1/infer"),
    ("parameter", "/v2/models/m;x=y/versions/1/infer"),
    ("capitals", "/V2/Models/m/Versions/1/Infer"),
    ("version-negative", "/v2/models/m/versions/-1/infer"),
    ("version-huge", "/v2/models/m/versions/99999999999/infer"),
    ("version-zero-padded-long", "/v2/models/m/versions/00000000000001/infer"),
    ("version-escaped", "/v2/models/m/versions/%31/infer"),
    ("engine-name", "/v2/models/m--v1/versions/1/infer"),
    ("name-too-long", "/v2/models/" + "m" * 64 + "/versions/1/infer"),
    ("whole-too-long", INFER + "?" + "a" * 3000),
    ("whole-far-too-long", INFER + "?" + "a" * 70_000),
    ("absolute", "http://x" + INFER),
    ("absolute-elsewhere", "http://169.254.169.254/latest/meta-data"),
    ("absolute-https", "https://x" + INFER),
    ("absolute-file", "file:///etc/passwd"),
    ("absolute-userinfo", "http://user:password@x" + INFER),
    ("userinfo", "user:password@x" + INFER),
    ("at-first", "@x" + INFER),
    ("colon-first", ":80" + INFER),
    ("relative", "v2/models/m/versions/1/infer"),
    ("asterisk", "*"),
    ("empty", ""),
)


def _admin(line: str) -> Payload:
    method, _, target = line.partition(" ")
    name = f"admin {line}".replace(" ", "-").replace("/", ".")[:100]
    return Payload(
        name=name,
        why="the administration of an engine, or of ours",
        raw=request(name, method=method.encode(), target=target, body=b"{}", sized=True),
    )


def _hiding(name: str, target: str) -> Payload:
    # A proxy may well turn an absolute target into a path, or cut a fragment: then it is plain.
    repaired = target.startswith(("http://x/", "https://x/", "http://user")) or "#" in target
    return Payload(
        name=f"path-{name}",
        why="a path that two readers could understand in two ways",
        raw=request(f"path-{name}", target=target, body=BODY, sized=True),
        may=(MEANT,) if repaired else (),
    )


_BYTES = (
    ("nul", INFER.encode() + b"\x00"),
    ("latin", INFER.encode() + b"\xe9"),
    ("unicode-slash", "/v2/models∕m/infer".encode()),
    ("unicode-full-width", "/v2/models/m/versions/１/infer".encode()),
    ("tab", b"/v2/models/m\t/versions/1/infer"),
    ("delete", b"/v2/models/m\x7f/versions/1/infer"),
    ("space", b"/v2/models/m /versions/1/infer"),
    ("carriage-return", b"/v2/models/m\r/versions/1/infer"),
)

_SOUND = (
    Payload(
        name="sound-infer",
        why="the honest request: strictness must not break it",
        raw=request("sound-infer", body=BODY, sized=True),
        may=(MEANT,),
        must=True,
    ),
    Payload(
        name="sound-query",
        why="a query is no part of the path; it is not passed on",
        raw=request(
            "sound-query", target=INFER + "?a=%2e%2e/..//&b=http://x/", body=BODY, sized=True
        ),
        may=(MEANT,),
        must=True,
    ),
    Payload(
        name="sound-metadata",
        why="metadata is an inference verb",
        raw=request("sound-metadata", method=b"GET", target="/v2/models/m/versions/1"),
        may=(Asked("metadata", "m"),),
        must=True,
    ),
)

PATHS = (
    *map(_admin, (*_TRITON, *_RAY, *_OURS)),
    *(_hiding(name, target) for name, target in _HIDING),
    *(
        Payload(
            name=f"bytes-{name}",
            why="a byte that has no place in a target",
            raw=request(f"bytes-{name}", target=target, body=BODY, sized=True),
        )
        for name, target in _BYTES
    ),
    *_SOUND,
)
