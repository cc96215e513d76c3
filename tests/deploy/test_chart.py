"""The Helm chart: what it takes, what it refuses, and what it says afterwards."""

import json
import re
from typing import Any

import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.deploy.files import CHART, ROOT, helm, notes, template


def test_it_has_the_version_of_the_software() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    (version,) = re.findall(
        r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_helm_finds_nothing_to_complain_of() -> None:
    assert helm({})["lint"] == []


def test_its_schema_is_one_and_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def unknown(values: Any, schema: Any, path: str) -> list[str]:
        if not isinstance(values, dict) or "properties" not in schema:
            return []
        missing = [f"{path}.{key}" for key in values if key not in schema["properties"]]
        for key in set(values) & set(schema["properties"]):
            missing += unknown(values[key], schema["properties"][key], f"{path}.{key}")
        return missing

    assert unknown(values, schema, "") == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rooter": {}}, "rooter"),
    ({"router": {"replicas": 0}}, "replicas"),
    ({"router": {"tlsSecret": ""}}, "tlsSecret"),
    ({"edgeAgent": {"enabled": True}}, "cluster"),
    ({"edgeAgent": {"enabled": True, "cluster": "a", "connectivity": "dial"}}, "advertiseUrl"),
    ({"edgeAgent": {"advertiseUrl": "http://plain"}}, "advertiseUrl"),
    ({"router": {"settings": {"LISTEN": "x"}}}, "LISTEN"),
]


def test_wrong_values_are_refused_by_name() -> None:
    answers = helm(*(values for values, _ in WRONG))["answers"]
    for answer, (values, told) in zip(answers, WRONG, strict=True):
        assert told in answer["error"], values


def _router(answer: dict[str, Any], kind: str) -> Any:
    documents = yaml.safe_load_all(template(answer, "router.yaml"))
    return next(d for d in documents if d and d["kind"] == kind)


def test_a_setting_of_the_user_wins_and_starts_the_pods_anew() -> None:
    plain, others, changed = helm(
        {},
        {"controlPlane": {"settings": {"FED_NAME": "x"}}},
        {"router": {"settings": {"FED_MAX_CONCURRENT": 7, "FED_LISTEN": "[::]:7400"}}},
    )["answers"]
    data = _router(changed, "ConfigMap")["data"]
    assert (data["FED_MAX_CONCURRENT"], data["FED_LISTEN"]) == ("7", "[::]:7400")
    sums = [
        _router(answer, "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        for answer in (plain, others, changed)
    ]
    assert sums[0] == sums[1] != sums[2]


def test_the_notes_name_the_next_commands() -> None:
    for command in (
        "fed login https://localhost:7480 --ca-file ca.pem --token-file admin.token",
        "fed router register router-2 --token-file router-2.token",
        "create secret generic router-join --from-literal=ca-pin=$(fed ca pin) --from-file=",
        "fed cluster register eu-west --region REGION --token-file agent.token",
    ):
        assert command in notes("everything")
    assert "fed router" not in notes("agent alone")
    assert "--connectivity reverse" in notes("agent alone")
