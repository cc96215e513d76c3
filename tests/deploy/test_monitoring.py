"""Dashboards and alerts speak of series that there are, with labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from edge_agent.admin import Parts
from tests.deploy.files import DEPLOY, kustomized
from tests.deploy.live_metrics import (
    Series,
    agent_page,
    bridge_page,
    control_plane_page,
    keeper_page,
    router_page,
    series,
)

MONITORING = DEPLOY / "monitoring"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
SCRAPED = {"instance", "job", "namespace", "pod"}  # labels that Prometheus adds


def groups() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    return list(document["groups"])


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for rule in rules()]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            name = f"{path.stem}: {panel['title']}"
            found += [(name, target["expr"]) for target in panel["targets"]]
    return found


def used(expression: str) -> list[tuple[str, set[str]]]:
    """The series of an expression, each with the labels that its matchers and the aggregations
    around it name."""
    found: list[tuple[str, set[str]]] = []

    def walk(node: Any, around: set[str]) -> None:
        match node:
            case promql_parser.VectorSelector():
                found.append((node.name or "", around | {m.name for m in node.matchers.matchers}))
            case promql_parser.MatrixSelector():
                walk(node.vector_selector, around)
            case promql_parser.AggregateExpr():
                walk(node.expr, around | set(node.modifier.labels if node.modifier else ()))
            case promql_parser.BinaryExpr():
                walk(node.lhs, around)
                walk(node.rhs, around)
            case promql_parser.Call():
                for argument in node.args:
                    walk(argument, around)
            case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
                walk(node.expr, around)
            case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
                pass
            case _:
                raise AssertionError(f"{type(node)} is not known here: {expression}")

    walk(promql_parser.parse(expression), set())
    return found


@pytest.fixture
async def live(tmp_path: Path, agent_parts: Parts) -> Series:
    found = series(agent_page(agent_parts)) | series(bridge_page())
    found |= series(await control_plane_page(tmp_path / "plane"))
    found |= series(await keeper_page())
    async with router_page(tmp_path / "router") as page:
        return found | series(page)


async def test_every_series_and_label_is_there(live: Series) -> None:
    missing = []
    for where, expression in expressions():
        for name, labels in used(expression):
            if not any(labels - SCRAPED <= has for has in live.get(name, ())):
                missing.append(f"{where}: {name} with {sorted(labels)}, not {live.get(name)}")
    assert missing == []


def test_it_looks_at_all_that_an_expression_names() -> None:
    text = 'sum by (a) (rate(x_total{b="1"}[5m])) / ignoring (c) (y - time()) > 0.1'
    assert used(text) == [("x_total", {"a", "b"}), ("y", set())]


def test_each_alert_has_a_summary_and_a_section_of_the_runbook() -> None:
    text = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
        for part in ("**Means.**", "**Do.**"):
            assert part in sections[rule["alert"]]


def test_the_operators_form_of_the_alerts_is_the_same() -> None:
    text = (MONITORING / "prometheus-rule.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["spec"]["groups"] == groups()


def test_legends_name_labels_of_their_expression() -> None:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                named = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
                aggregated = re.search(r"^\w+(?: by \(([^)]*)\))? ", target["expr"])
                if aggregated and target["expr"].startswith(("sum", "max")):
                    kept = set(re.split(r",\s*", aggregated[1] or ""))
                    assert named <= kept, f"{path.stem}: {panel['title']}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["uid"] == f"federation-{path.stem}"
    (source,) = document["templating"]["list"]
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        assert panel["title"]
        assert panel["datasource"]["uid"] == f"${{{source['name']}}}"
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another"
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_grafana_finds_all_dashboards() -> None:
    (made,) = [m.obj for m in kustomized("monitoring") if m.obj["kind"] == "ConfigMap"]
    assert set(made["data"]) == {path.name for path in DASHBOARDS}
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
