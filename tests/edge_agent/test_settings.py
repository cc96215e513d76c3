"""Settings are refused with the flag and the remedy."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.settings import (
    Settings,
    advertised,
    check,
    connect_to,
    contact,
    engine_grpc,
    read_secret,
    state_directory,
    triton_repository,
)
from federation.contract.errors import Invalid
from federation.runtime.config import load_settings

GOOD = Settings(cluster="eu", state_dir="s", triton_repository="r")
KUBE = {
    "engine": "triton-kubernetes",
    "kube_engine_image": "example.com/triton:1",
    "kube_models_claim": "models",
}


def test_the_defaults_are_fine() -> None:
    check(GOOD)
    check(replace(GOOD, engine="static", triton_repository=""))
    check(replace(GOOD, **KUBE))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cluster": "EU west"}, "cannot name a cluster"),
        ({"engine_url": "localhost:8000"}, "--engine-url"),
        ({"control_plane_url": "ftp://h"}, "--control-plane-url"),
        ({"control_plane_url": "http://h:1"}, "--control-plane-url"),
        ({"advertise_url": "https://"}, "--advertise-url"),
        ({"advertise_url": "http://gateway:1"}, "--advertise-url"),
        ({"ca_pin": "sha256:12"}, "--ca-pin"),
        ({"connect_to": ("a:1",)}, "--connect-to"),
        ({"connectivity": "reverse", "advertise_url": "https://g:1"}, "makes no sense"),
        ({"reverse_idle": 0}, "--reverse-idle 0"),
        ({"listen": "0.0.0.0:7500"}, "routers cannot dial"),
        ({"log_level": "loud"}, "--log-level"),
        ({"kube_toleration": ("gpu", "*=x")}, "is no toleration"),
        ({"dcgm_url": ("http://a:9400/metrics", "b:9400")}, "--dcgm-url 'b:9400'"),
        ({"triton_metrics_url": "8002"}, "--triton-metrics-url"),
        ({"inventory": "declared"}, "needs --inventory-file"),
        ({"engine": "kuberay"}, "--engine=kuberay needs --kube-engine-image"),
        (KUBE | {"kube_models_claim": ""}, "needs --kube-models-claim"),
        (KUBE | {"kube_models_path": "../x"}, "--kube-models-path"),
        (KUBE | {"kube_engine_cpu": "many"}, "--kube-engine-cpu 'many'"),
        (KUBE | {"kube_engine_memory": "0"}, "--kube-engine-memory '0'"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(replace(GOOD, **change))  # type: ignore[arg-type]
    assert words in caught.value.message


def test_reversed_nothing_has_to_be_reachable() -> None:
    settings = replace(GOOD, connectivity="reverse", listen="0.0.0.0:7500")
    check(settings)
    assert advertised(settings, None) == ""
    given = replace(settings, connect_to=("r1:7402=127.0.0.1:1", "r2:7402=127.0.0.1:2"))
    assert connect_to(given) == {"r1:7402": "127.0.0.1:1", "r2:7402": "127.0.0.1:2"}


def test_how_to_find_the_control_plane() -> None:
    pin = "sha256:" + "0" * 64
    found = contact(replace(GOOD, ca_pin=pin, join_token_file="token"))
    assert (found.url, found.pin, found.token_file) == (
        "https://127.0.0.1:7480",
        pin,
        Path("token"),
    )
    assert contact(GOOD).token_file is None


def test_only_the_name_is_needed() -> None:
    settings = load_settings(Settings, prog="agent", argv=["--cluster=eu"], environ={})
    check(settings)
    state = state_directory(settings, {"XDG_STATE_HOME": "/x"})
    assert state == Path("/x/inference-federation/agent-eu")
    assert state_directory(settings, {}).is_relative_to(Path.home())
    assert triton_repository(settings, state) == state / "model-repository"
    assert triton_repository(GOOD, state) == Path("r")


def test_a_relative_state_directory_is_told_whole() -> None:
    assert state_directory(GOOD, {}).is_absolute()


def test_flags_and_environment() -> None:
    argv = ["--cluster=eu", "--state-dir=s", "--engine=static"]
    environ = {"FED_ENGINE_URL": "http://h:1", "FED_CLUSTER": "other"}
    settings = load_settings(Settings, prog="agent", argv=argv, environ=environ)
    assert (settings.cluster, settings.engine_url) == ("eu", "http://h:1")
    with pytest.raises(Invalid, match="engine"):
        load_settings(Settings, prog="agent", argv=[*argv, "--engine=vllm"], environ={})


def test_the_advertised_url_follows_the_port(tmp_path: Path) -> None:
    assert (
        advertised(replace(GOOD, listen="127.0.0.1:0"), ("127.0.0.1", 81)) == "https://127.0.0.1:81"
    )
    given = replace(GOOD, advertise_url="https://gateway:9/")
    assert advertised(given, ("127.0.0.1", 81)) == "https://gateway:9"


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" secret\n")
    (tmp_path / "empty").write_text("\n")
    assert read_secret(str(tmp_path / "token"), "f") == "secret"
    assert read_secret("", "f") == ""
    for name in ("empty", "missing"):
        with pytest.raises(Invalid, match="--f"):
            read_secret(str(tmp_path / name), "f")


@pytest.mark.parametrize(
    ("change", "address"),
    [
        ({}, "127.0.0.1:8001"),
        ({"engine_url": "http://triton:9000/"}, "triton:9001"),
        ({"engine_url": "http://triton"}, "triton:81"),
        ({"engine_url": "http://[::1]:8000"}, "[::1]:8001"),
        ({"engine_grpc": "other:99"}, "other:99"),
        ({"engine_grpc": "none"}, ""),
    ],
)
def test_where_tritons_grpc_is(change: dict[str, str], address: str) -> None:
    assert engine_grpc(replace(GOOD, **change)) == address  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["8001", "host:", "host:x", "host:70000", "http://h:1x"])
def test_an_address_of_grpc_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="--engine-grpc"):
        check(replace(GOOD, engine_grpc=text))
