"""Specs in two spellings."""

from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from federation.bridge.policy.custom import (
    BRIDGED,
    CLUSTER,
    DEPLOYMENT,
    OUR_FIELDS,
    ROLLOUT,
    Bridged,
    camel,
    dataclass_in,
    read,
    spec_of,
)
from federation.contract.capacity import Resources
from federation.contract.errors import Invalid
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.rollout import (
    AnalysisSpec,
    OnInconclusive,
    RolloutSpec,
    RolloutStrategy,
    Wave,
)
from federation.contract.scaling import Scaling, ScalingMode
from federation.contract.sync import Day, SyncSpec, SyncWindow
from federation.contract.types import EngineKind
from tests.fakes.kube_schemas import definitions

Obj = dict[str, Any]


def spec(bridged: Bridged, **values: Any) -> object:
    return spec_of(read(bridged, {"metadata": {"name": "d"}, "spec": values}))


def test_how_fields_are_spelt() -> None:
    names = ["model", "cluster_labels", "max_price_per_gpu_hour", "up_s", "memory_mib"]
    assert [camel(name) for name in names] == [
        "model",
        "clusterLabels",
        "maxPricePerGpuHour",
        "upSeconds",
        "memoryMib",
    ]


def test_a_deployment() -> None:
    assert spec(DEPLOYMENT, model="m", deletionPolicy="Keep") == DeploymentSpec(model="m")
    assert spec(
        DEPLOYMENT,
        model="m",
        version="champion",
        pinnedVersions=[1],
        clusterLabels={"snake_case": "stays", "camelCase": "too"},
        scaling={"mode": "auto", "max": 3, "upSeconds": 5},
        resources={"gpus": 1, "minComputeCapability": "9.0"},
        engine="ray-serve",
        maxPricePerGpuHour=2,
    ) == DeploymentSpec(
        model="m",
        version="champion",
        pinned_versions=(1,),
        cluster_labels={"snake_case": "stays", "camelCase": "too"},
        scaling=Scaling(mode=ScalingMode.AUTO, max=3, up_s=5.0),
        resources=Resources(gpus=1, min_compute_capability="9.0"),
        engine=EngineKind.RAY_SERVE,
        max_price_per_gpu_hour=2.0,
    )


def test_a_cluster() -> None:
    window = {"start": "22:00", "end": "06:00", "days": ["mon"], "maxMbytesPerSecond": 3}
    assert spec(
        CLUSTER, region="eu", allowCode=True, scheduling="active", sync={"windows": [window]}
    ) == ClusterSpec(
        region="eu",
        allow_code=True,
        sync=SyncSpec(
            windows=(
                SyncWindow(start="22:00", end="06:00", days=(Day.MON,), max_mbytes_per_second=3.0),
            )
        ),
    )


def test_a_rollout() -> None:
    strategy = {
        "waves": [{"regions": ["eu"]}, {"clusterLabels": {"aB": "c"}, "approval": True}],
        "steps": [5, 100],
        "bakeSeconds": 9,
        "analysis": {"maxP95Ratio": 1.5, "maxBakeSeconds": 60},
    }
    values: Obj = {"model": "m", "version": 2, "strategy": strategy}
    assert spec(ROLLOUT, **values, paused=True, deletionPolicy="Keep") == RolloutSpec(
        model="m",
        version=2,
        strategy=RolloutStrategy(
            waves=(
                Wave(regions=("eu",)),
                Wave(cluster_labels={"aB": "c"}, approval=True),
            ),
            steps=(5.0, 100.0),
            bake_s=9.0,
            analysis=AnalysisSpec(max_p95_ratio=1.5, max_bake_s=60.0),
        ),
    )
    assert read(ROLLOUT, {"spec": {**values, "paused": True}}).paused is True
    assert read(ROLLOUT, {"spec": values}).paused is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model": "m", "modle": 1}, r"spec\.modle is not known"),
        ({"model": "m", "scaling": {"maximum": 1}}, r"spec\.scaling\.maximum"),
        ({"model": "m", "replicas": "2"}, "replicas"),
        ({"model": "m", "scaling": 3}, "scaling"),
        ({}, "model"),
    ],
)
def test_what_is_not_understood_is_named(values: Obj, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        spec(DEPLOYMENT, **values)


def test_an_object_is_read_whatever_it_lacks() -> None:
    custom = read(CLUSTER, {})
    assert (custom.name, custom.generation, custom.deleting, custom.keep) == ("", 0, False, False)
    assert (custom.claim, custom.created_at, custom.scheduling) == ("", "", "")
    annotated = {"metadata": {"annotations": {"federation.inference/adopt": "true"}}}
    assert read(CLUSTER, annotated).adopt


# ---------------------------------------------------------------- the definitions have these fields

TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def described(target: type) -> Obj:
    """The properties that a definition must have for a dataclass: names and types, all the way."""
    hints = get_type_hints(target)
    return {camel(field.name): _described(hints[field.name]) for field in fields(target)}


def _described(hint: Any) -> Any:
    inner = dataclass_in(hint)
    args: list[Any] = list(getattr(hint, "__args__", ()))
    if str(hint) == "int | str":
        return "int-or-string"
    if getattr(hint, "__origin__", None) is tuple:
        return [described(inner) if inner else _described(args[0])]
    if inner:
        return described(inner)
    if str(hint).startswith("collections.abc.Mapping"):
        return {"*": "string"}
    if type(None) in args:
        return _described(args[0])
    return TYPES.get(hint, "string")  # enumerations


def shape(schema: Obj) -> Any:
    """The same for what a definition has."""
    if schema.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    if schema["type"] == "array":
        return [shape(schema["items"])]
    if "additionalProperties" in schema:
        return {"*": shape(schema["additionalProperties"])}
    if schema["type"] == "object":
        return {key: shape(inner) for key, inner in schema["properties"].items()}
    return schema["type"]


@pytest.mark.parametrize("bridged", BRIDGED, ids=lambda b: b.resource.kind)
def test_the_definitions_have_the_fields_of_the_control_plane(bridged: Bridged) -> None:
    definition = definitions()[bridged.resource.kind]
    (version,) = definition["spec"]["versions"]
    names = definition["spec"]["names"]
    assert (definition["spec"]["group"], version["name"], names["plural"]) == (
        bridged.resource.group,
        bridged.resource.version,
        bridged.resource.plural,
    )
    properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert bridged.kind.spec is not None
    ours = {key: shape(inner) for key, inner in properties.items() if key not in OUR_FIELDS}
    assert ours == described(bridged.kind.spec)


@pytest.mark.parametrize("bridged", BRIDGED, ids=lambda b: b.resource.kind)
def test_enumerations_are_those_of_the_contract(bridged: Bridged) -> None:
    (version,) = definitions()[bridged.resource.kind]["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    if bridged is DEPLOYMENT:
        modes = properties["scaling"]["properties"]["mode"]["enum"]
        assert modes == [mode.value for mode in ScalingMode]
    if bridged is not CLUSTER:
        strategy = properties["rollout" if bridged is DEPLOYMENT else "strategy"]["properties"]
        choices = strategy["analysis"]["properties"]["onInconclusive"]["enum"]
        assert choices == [each.value for each in OnInconclusive]
        return
    windows = properties["sync"]["properties"]["windows"]["items"]["properties"]
    assert windows["days"]["items"]["enum"] == [day.value for day in Day]
