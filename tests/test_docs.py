"""What the pages in docs/ show is what the code takes."""

import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from edge_agent.settings import Settings as AgentSettings
from federation.bridge import troubles
from federation.bridge.policy.custom import ADOPT, BRIDGED, FINALIZER, OUR_FIELDS, read, spec_of
from federation.cli.documents import parse_wanted
from federation.cli.rollout import rollout
from federation.cli.rollout_start import start
from federation.contract.capacity import Resources
from federation.contract.package import ModelPackage, parse_package
from federation.contract.requirements import resource_problems
from federation.contract.resources import DeploymentSpec, RegionSpec
from federation.contract.rollout import AnalysisSpec, RolloutSpec, RolloutStrategy, Wave
from federation.contract.rollout_rules import check_freeze, strategy_problems
from federation.contract.scaling import ScalingMode, scaling_problems
from federation.policy.audit import chain
from federation.policy.audit.flood import BUDGET
from federation.policy.audit.records import AuditEntry
from federation.policy.packing_search import DEPTH, STEPS
from federation.policy.rollouts.records import Phase
from federation.store.memory import MemoryStore
from router.membership.tablefile import load_written
from router.policy import table
from tests.fakes.kube_kinds import Kind
from tests.fakes.kube_schemas import check, pruned
from tests.federation.store.audit_log import Writer, entries_of

DOCS = Path(__file__).resolve().parents[1] / "docs"


def _blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", _blocks("model-package.md"))
def test_every_package_shown_is_one(text: str) -> None:
    assert parse_package(text).name


def test_every_key_of_a_package_is_told() -> None:
    text = (DOCS / "model-package.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert told == {field.name for field in fields(ModelPackage)}


@pytest.mark.parametrize("text", _blocks("placement.md"))
def test_every_deployment_shown_is_one(text: str) -> None:
    (wanted,) = parse_wanted(text, source="placement.md")
    assert isinstance(wanted.spec, DeploymentSpec)
    spec = wanted.spec
    assert spec.resources or spec.scaling.mode is ScalingMode.AUTO
    assert not list(resource_problems(spec.resources or Resources()))
    assert not list(scaling_problems(spec.scaling))


def test_every_key_of_a_deployment_is_told() -> None:
    text = (DOCS / "placement.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    known = {field.name for spec in (DeploymentSpec, Resources) for field in fields(spec)}
    assert told == known
    assert f"{DEPTH} replicas\nand {STEPS:,} steps" in text


ROLLOUTS = (DOCS / "rollouts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", _blocks("rollouts.md"))
def test_every_rollout_shown_makes_sense(text: str) -> None:
    (wanted,) = parse_wanted(text, source="rollouts.md")
    match wanted.spec:
        case RolloutSpec(strategy=strategy) | DeploymentSpec(rollout=strategy):
            assert strategy is not None
            assert not list(strategy_problems(strategy))
        case RegionSpec(freeze=windows, time_zone=zone):
            check_freeze(windows, zone)
        case _:
            raise AssertionError(wanted)


def test_every_flag_key_phase_and_command_of_rollouts_is_told() -> None:
    flags = {opt for param in start.params for opt in param.opts if opt.startswith("--")}
    told = set(re.findall(r"(--[a-z0-9-]+)", ROLLOUTS))
    others = {"--to", "--name", "--endpoint", "--context", "--token-file", "--ca-file", "--debug"}
    assert flags - others - {"--output", "--help"} <= told
    keys = {f.name for spec in (RolloutStrategy, AnalysisSpec, Wave) for f in fields(spec)}
    assert {key for key in keys if f"{key}" not in ROLLOUTS} == set()
    assert {phase.value for phase in Phase} <= set(
        re.findall(r"^\| `([a-z-]+)` \|", ROLLOUTS, re.M)
    )
    assert {name for name in rollout.table if f"`{name}" not in ROLLOUTS} == set()


def test_the_table_shown_is_one(tmp_path: Path) -> None:
    (text,) = _blocks("router-table.md")
    path = tmp_path / "table.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = table.build(load_written(path))
    assert loaded.resolve("filetype@champion", None).version == 2


def test_every_key_of_an_audit_entry_is_told() -> None:
    text = (DOCS / "audit-log.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(told) == sorted(field.name for field in fields(AuditEntry))
    assert f"up to {BUDGET} kinds" in text
    assert f"at most {2 * BUDGET + 1} entries a minute" in text


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_the_audit_log_verifies_with_nothing_of_ours(tmp_path: Path) -> None:
    text = (DOCS / "audit-log.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    writer = Writer(MemoryStore())
    lines = [chain.line(entry) for entry in entries_of(writer.batch(5))]

    def run(lines: list[str]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "audit.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = run(lines)
    assert (done.returncode, done.stdout.strip()) == (0, writer.head.hash), done.stderr
    for forged in ([*lines[:3], lines[3].replace("ada", "eve"), lines[4]], lines[:2] + lines[3:]):
        done = run(forged)
        assert done.returncode == 1
        assert done.stdout.startswith("broken: ")


def test_settings_that_the_kubernetes_page_names_exist_and_those_of_engines_are_named() -> None:
    text = (DOCS / "kubernetes.md").read_text(encoding="utf-8")
    named = {name.replace("-", "_") for name in re.findall(r"`--([a-z-]+)`", text)}
    known = {field.name for field in fields(AgentSettings)}
    assert named <= known
    elsewhere = {"kubeconfig", "kube_context"}  # how to reach an API server
    assert {name for name in known if name.startswith("kube")} - elsewhere <= named
    engines = get_args(get_type_hints(AgentSettings)["engine"])
    assert set(re.findall(r"--engine ([a-z-]+)", text)) <= set(engines)


@pytest.mark.parametrize("text", _blocks("gitops.md"))
def test_every_custom_resource_shown_is_one(text: str) -> None:
    obj = yaml.safe_load(text)
    bridged = {b.resource.kind: b for b in BRIDGED}.get(obj.get("kind", ""))
    if bridged is None:
        assert obj.get("kind") == "Application" or "data" in obj
        return
    resource = bridged.resource
    assert obj["apiVersion"] == resource.api_version
    kind = Kind(resource.group, resource.version, resource.plural, resource.kind)
    check(kind, "shown", pruned(kind, obj, strict=True), None)
    assert spec_of(read(bridged, obj))


def test_the_bridges_words_are_told() -> None:
    text = (DOCS / "gitops.md").read_text(encoding="utf-8")
    reasons = {reason for _, reason, _ in troubles.WORDS}
    for word in (*OUR_FIELDS, ADOPT, FINALIZER, *reasons, "NotOwned", "InvalidSpec", "Refused"):
        assert f"`{word}" in text, word
