import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import FederationError, Invalid, NotFound
from federation.relay.errors import WrongMethod
from federation.relay.paths import (
    InferenceTarget,
    InferenceVerb,
    check_target,
    gateway_path,
    parse_target,
)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/v2", InferenceTarget(InferenceVerb.SERVER)),
        ("GET", "/v2/health/live", InferenceTarget(InferenceVerb.SERVER_LIVE)),
        ("GET", "/v2/health/ready", InferenceTarget(InferenceVerb.SERVER_READY)),
        ("GET", "/v2/models/filetype", InferenceTarget(InferenceVerb.METADATA, "filetype")),
        ("GET", "/v2/models/m/versions/2", InferenceTarget(InferenceVerb.METADATA, "m", 2)),
        ("GET", "/v2/models/m/ready", InferenceTarget(InferenceVerb.READY, "m")),
        ("POST", "/v2/models/m/infer", InferenceTarget(InferenceVerb.INFER, "m")),
        ("POST", "/v2/models/m/infer?x=1", InferenceTarget(InferenceVerb.INFER, "m")),
        ("POST", "/v2/models/A.b_c-9/infer", InferenceTarget(InferenceVerb.INFER, "A.b_c-9")),
        ("POST", "/v2/models/m/generate", InferenceTarget(InferenceVerb.GENERATE, "m")),
        ("POST", "/v2/models/m/versions/12/infer", InferenceTarget(InferenceVerb.INFER, "m", 12)),
        ("POST", "/v1/completions", InferenceTarget(InferenceVerb.COMPLETIONS)),
        ("POST", "/v1/chat/completions", InferenceTarget(InferenceVerb.CHAT)),
        ("POST", "/v1/embeddings", InferenceTarget(InferenceVerb.EMBEDDINGS)),
        ("POST", "/v1/responses", InferenceTarget(InferenceVerb.RESPONSES)),
        ("POST", "/v1/rerank", InferenceTarget(InferenceVerb.RERANK)),
        ("POST", "/v1/score", InferenceTarget(InferenceVerb.SCORE)),
        ("GET", "/v1/models", InferenceTarget(InferenceVerb.MODELS)),
        ("GET", "/v1/models/m", InferenceTarget(InferenceVerb.MODEL, "m")),
        ("GET", "/v1/models/m%40champion", InferenceTarget(InferenceVerb.MODEL, "m@champion")),
        ("GET", "/v1/nearest?model=m", InferenceTarget(InferenceVerb.NEAREST)),
        ("GET", "/v1/models/m@2", InferenceTarget(InferenceVerb.MODEL, "m@2")),
    ],
)
def test_a_path_of_the_table_says_what_is_asked(
    method: str, target: str, expected: InferenceTarget
) -> None:
    assert parse_target(method, target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/v2/models/m",
        "//evil.example/v2/models/m",
        "user:secret@evil.example",
        "*",
        "",
        "/v2/models/../repository/index",
        "/v2/models/./m",
        "/v2/models/m/",
        "/v2/models/%2e%2e/repository/index",
        "/v2/models/%2E%2e/x",
        "/v2/models/m%2finfer",
        "/v2/models/m%5cinfer",
        "/v2/models/m%00",
        "/v2/models/m\\infer",
        "/v2/models/m\x00",
        "/v2/models/caf\xe9",
        "/v2/models/\u2025/x",
        "/v2/models/m%",
        "/v2/models/m#x",
        "/v2/models/m /ready",
        "/v2//models/m",
        "/" + "a" * 3000,
    ],
)
def test_a_target_that_two_readers_could_take_for_two_paths_is_refused(target: str) -> None:
    with pytest.raises((Invalid, NotFound)):
        parse_target("GET", target)


@pytest.mark.parametrize(
    "target",
    [
        "/v2/repository/index",
        "/v2/repository/models/m/load",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/cudasharedmemory/status",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/m/trace/setting",
        "/v2/models/m/config",
        "/v2/models/m/stats",
        "/v2/models/stats/x",
        "/api/serve/applications/",
        "/-/routes",
        "/v2/models/m/versions/x",
        "/v2/models/m--v1/infer",
        "/v2/models/a..b/infer",
        "/v2/models/.m/infer",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_an_engines_administration_does_not_exist(method: str, target: str) -> None:
    with pytest.raises((NotFound, WrongMethod)):
        parse_target(method, target)


def test_a_wrong_method_names_the_right_one() -> None:
    with pytest.raises(WrongMethod, match="takes POST, not GET") as caught:
        parse_target("GET", "/v2/models/m/infer")
    assert caught.value.allow == "POST"


@given(st.text(max_size=60))
def test_any_string_is_a_path_or_a_clear_refusal(raw: str) -> None:
    try:
        path = check_target(raw)
    except FederationError:
        return
    assert path.startswith("/")
    assert path.isascii()
    assert ".." not in path.split("/")
    assert "//" not in path
    assert "%" not in path


@pytest.mark.parametrize(
    "verb",
    [
        InferenceVerb.METADATA,
        InferenceVerb.READY,
        InferenceVerb.INFER,
        InferenceVerb.GENERATE,
        InferenceVerb.GENERATE_STREAM,
    ],
)
def test_a_router_asks_by_a_path_that_the_gateway_reads_back(verb: InferenceVerb) -> None:
    method = "GET" if verb in (InferenceVerb.METADATA, InferenceVerb.READY) else "POST"
    assert parse_target(method, gateway_path(verb, "a.b-c", 3)) == InferenceTarget(verb, "a.b-c", 3)


@pytest.mark.parametrize("verb", [InferenceVerb.CHAT, InferenceVerb.COMPLETIONS])
def test_openai_paths_name_no_model(verb: InferenceVerb) -> None:
    assert parse_target("POST", gateway_path(verb, "m", 3)) == InferenceTarget(verb)
