"""Request targets: which strings are accepted, and what each asks for.

Input: the method and the raw request target as the client sent it. Output: an InferenceTarget, or
an error that names the remedy. One table of inference verbs: a path that is not in it does not
exist, so an engine's own administration can never be reached. The address of an upstream is always
built from the parsed target, never by joining a client's bytes to a base.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote

from federation.contract.errors import Invalid, NotFound
from federation.relay.errors import WrongMethod

MAX_TARGET_BYTES = 2048
PEER_PREFIX = "/fed/v1/packages/"  # what clusters of one region ask each other for


class InferenceVerb(StrEnum):
    """Everything that a client may ask of a model or of an endpoint."""

    METADATA = "metadata"
    READY = "ready"
    INFER = "infer"
    GENERATE = "generate"
    GENERATE_STREAM = "generate_stream"
    COMPLETIONS = "completions"
    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    RERANK = "rerank"
    SCORE = "score"
    SERVER = "server"  # what this endpoint is
    SERVER_LIVE = "server-live"
    SERVER_READY = "server-ready"
    MODELS = "models"  # which models there are
    MODEL = "model"  # one entry of that list
    NEAREST = "nearest"  # which router had better be asked


OPENAI_PATHS = {  # the body names the model; a gateway is told it by headers
    InferenceVerb.COMPLETIONS: "/v1/completions",
    InferenceVerb.CHAT: "/v1/chat/completions",
    InferenceVerb.EMBEDDINGS: "/v1/embeddings",
    InferenceVerb.RESPONSES: "/v1/responses",
    InferenceVerb.RERANK: "/v1/rerank",
    InferenceVerb.SCORE: "/v1/score",
}


@dataclass(frozen=True, slots=True)
class InferenceTarget:
    """A parsed request. `model` is empty where the path names none; `version` None = default."""

    verb: InferenceVerb
    model: str = ""
    version: int | None = None


_NAME = r"(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,62})"
_V2_MODEL = rf"/v2/models/{_NAME}(?:/versions/(?P<version>[0-9]{{1,9}}))?"
_REFERENCE = r"(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,62}(?:@[A-Za-z0-9][A-Za-z0-9-]{0,62})?)"

_TABLE: tuple[tuple[InferenceVerb, str, re.Pattern[str]], ...] = tuple(
    (verb, method, re.compile(pattern))
    for verb, method, pattern in (
        (InferenceVerb.INFER, "POST", rf"{_V2_MODEL}/infer"),
        *((verb, "POST", re.escape(path)) for verb, path in OPENAI_PATHS.items()),
        (InferenceVerb.GENERATE, "POST", rf"{_V2_MODEL}/generate"),
        (InferenceVerb.GENERATE_STREAM, "POST", rf"{_V2_MODEL}/generate_stream"),
        (InferenceVerb.METADATA, "GET", _V2_MODEL),
        (InferenceVerb.READY, "GET", rf"{_V2_MODEL}/ready"),
        (InferenceVerb.SERVER, "GET", r"/v2/?"),
        (InferenceVerb.SERVER_LIVE, "GET", r"/v2/health/live"),
        (InferenceVerb.SERVER_READY, "GET", r"/v2/health/ready"),
        (InferenceVerb.MODELS, "GET", r"/v1/models"),
        (InferenceVerb.MODEL, "GET", rf"/v1/models/{_REFERENCE}"),
        (InferenceVerb.NEAREST, "GET", r"/v1/nearest"),
    )
)

_TARGET = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_ESCAPE = re.compile(r"%(?!40)", re.IGNORECASE)


def check_target(raw: str) -> str:
    """Return the path of a request target without its query, or raise Invalid.

    Only the origin form is accepted, in plain ASCII. Of percent escapes only `%40` ("@", as clients
    quote it in a model reference) is undone; any other would let two readers see two paths.
    """
    if len(raw) > MAX_TARGET_BYTES:
        raise Invalid(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
    if not _TARGET.fullmatch(raw):
        raise Invalid(
            "The request target is not a plain path.",
            hint="Send the path only, like '/v2/models/NAME/infer'.",
        )
    path = raw.partition("?")[0]
    if _ESCAPE.search(path):
        raise Invalid(
            "The path has percent escapes, and no name of a model needs them.",
            hint="Send the name as it is.",
        )
    segments = path.split("/")
    if "//" in path or "." in segments or ".." in segments:
        raise Invalid("The path has an empty, '.' or '..' segment.", hint="Send it without.")
    return path.replace("%40", "@")


def parse_target(method: str, raw: str) -> InferenceTarget:
    """Return what a request asks for; raises Invalid, NotFound, or WrongMethod."""
    path = check_target(raw)
    for verb, wanted, pattern in _TABLE:
        if match := pattern.fullmatch(path):
            if method != wanted:
                raise WrongMethod(f"{path} takes {wanted}, not {method[:16]}.", allow=wanted)
            return _target(verb, match.groupdict())
    raise NotFound(
        f"There is nothing at {path[:200]}.",
        hint="See /v2/models/NAME[/versions/N][/ready|/infer|/generate|/generate_stream], "
        "/v1/models, " + ", ".join(OPENAI_PATHS.values()) + ".",
        reason="unknown-path",
    )


def _target(verb: InferenceVerb, found: dict[str, str | None]) -> InferenceTarget:
    model, version = found.get("model") or "", found.get("version")
    if ".." in model or "--" in model:
        raise NotFound(f"There is no model {model!r}.", reason="unknown-model")
    return InferenceTarget(verb, model, int(version) if version else None)


@lru_cache(maxsize=4096)
def gateway_path(verb: InferenceVerb, model: str, version: int) -> str:
    """Return the path by which a router asks a gateway: the version is always named.

    The OpenAI paths name neither; there the headers MODEL_HEADER and VERSION_HEADER do.
    """
    if verb in OPENAI_PATHS:
        return OPENAI_PATHS[verb]
    match verb:
        case InferenceVerb.METADATA:
            return f"/v2/models/{quote(model, safe='')}/versions/{version}"
        case _:
            return f"/v2/models/{quote(model, safe='')}/versions/{version}/{verb.value}"
