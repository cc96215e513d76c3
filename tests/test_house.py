"""The house keeps its own rules: sizes, the test mirror, import rules that bite, no drift."""

import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "federation": ROOT / "federation",
    "edge_agent": ROOT / "edge-agent" / "edge_agent",
    "router": ROOT / "router",
}
MAX_LINES = 400
MAX_MEDIAN_LINES = 170


def _sources() -> dict[str, Path]:
    """Every module of ours by dotted name, without generated code and migration scripts."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if "_pb2" in path.name or "versions" in parts or "data" in parts:
                continue
            found[".".join((package, *parts))] = path
    return found


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_long_and_the_median_is_short() -> None:
    tests = {str(p): p for p in (ROOT / "tests").rglob("*.py")}
    sizes = {name: _lines(path) for name, path in {**_sources(), **tests}.items()}
    assert {name: n for name, n in sizes.items() if n > MAX_LINES} == {}
    sources = [n for name, n in sizes.items() if name not in tests and n > 5]
    assert statistics.median(sources) <= MAX_MEDIAN_LINES


def test_every_module_has_its_test_file() -> None:
    missing = []
    for name in _sources():
        *folders, module = name.split(".")
        if module in ("__init__", "__main__", "env"):
            continue
        expected = ROOT.joinpath("tests", *folders, f"test_{module}.py")
        if not expected.exists():
            missing.append(f"{name} -> {expected.relative_to(ROOT)}")
    assert missing == []


def test_every_module_says_where_input_and_output_are() -> None:
    silent = [
        name
        for name, path in _sources().items()
        if path.name not in ("__init__.py", "__main__.py")
        and not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []


def test_generated_code_matches_the_proto(tmp_path: Path) -> None:
    folder = Path("federation/contract/v1")
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "grpc_python_out")]
    outputs += [f"--{kind}=quiet:{tmp_path}" for kind in ("mypy_out", "mypy_grpc_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # holds the plugins
    subprocess.run(
        [*command, str(folder / "federation.proto")],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=60,
    )
    generated = {p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()}
    assert set(generated) == {p.name for p in (ROOT / folder).glob("*_pb2*.py*")}
    for name, content in generated.items():
        assert content == (ROOT / folder / name).read_bytes(), f"{name}: run `make proto`"


# One planted line per import rule: each must be reported by the rule that forbids it.
PLANTED = {
    "The three roles meet only in the shared packages": (
        "router/app.py",
        "import federation.store.base",
    ),
    "Agent and router do not know each other": (
        "router/geo.py",
        "import edge_agent.policy.session",
    ),
    "Nothing in the control plane knows the agent or the router": (
        "federation/app.py",
        "import router.policy.pick",
    ),
    "The control plane is layered": ("federation/store/base.py", "import federation.control_loop"),
    "The router is layered": ("router/policy/table.py", "import router.geo"),
    "The agent is layered": ("edge-agent/edge_agent/policy/session.py", "import edge_agent.link"),
    "Decisions do no I/O, read no clock and roll no dice": (
        "federation/policy/placement.py",
        "import time",
    ),
    "Each third-party client has one door": ("federation/control_loop.py", "import sqlalchemy"),
}


@pytest.fixture(scope="module")
def broken_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the import linter says of a copy of the house with one line planted per rule."""
    copy = tmp_path_factory.mktemp("house")
    for folder in ("federation", "edge-agent", "router"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.mmdb"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, line in PLANTED.values():
        with (copy / file).open("a", encoding="utf-8") as target:
            target.write(f"\n{line}\n")
    environment = {
        "PATH": str(Path(sys.executable).parent),
        "PYTHONPATH": f"{copy}:{copy}/edge-agent",
    }
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("rule", PLANTED)
def test_each_import_rule_bites(broken_report: str, rule: str) -> None:
    assert re.search(rf"^{re.escape(rule)} BROKEN", broken_report, re.MULTILINE), broken_report


def test_no_rule_is_untested() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text[text.index("[tool.importlinter]") :]
    assert set(re.findall(r'^name = "(.+)"$', section, re.MULTILINE)) == set(PLANTED)


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [x for x in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^ /@]*", x)] == []


def test_no_lock_file_with_addresses() -> None:
    assert not (ROOT / "uv.lock").exists()
