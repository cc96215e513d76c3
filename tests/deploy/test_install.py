"""The script for plain servers, run into a folder; the units, as systemd reads them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from federation.runtime.config import load_settings
from tests.deploy.files import DEPLOY, ROLES, without
from tests.deploy.test_manifests import SETTINGS

SCRIPT = DEPLOY / "install.sh"
EXPOSURE = 20  # tenths, of systemd's own 0 to 100: 1.4 to 1.6 measured; 20 is "OK"


def install(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_ino)
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def there(tmp_path: Path) -> Path:
    install(*ROLES, "--destdir", str(tmp_path))
    return tmp_path


def test_it_writes_a_unit_and_settings_for_each_role(there: Path) -> None:
    expected = {f"etc/systemd/system/fed-{role}.service" for role in ROLES}
    expected |= {f"etc/inference-federation/{role}.env" for role in ROLES}
    assert set(tree(there)) == expected
    for role in ROLES:
        mode = (there / f"etc/inference-federation/{role}.env").stat().st_mode & 0o777
        assert mode == 0o640
        unit = (there / f"etc/systemd/system/fed-{role}.service").read_text(encoding="utf-8")
        assert f"ExecStart=/opt/inference-federation/venv/bin/fed-{role}\n" in unit
        assert "@" not in unit.replace("@system-service", "").replace("@privileged", "")


def test_the_second_time_nothing_changes(there: Path) -> None:
    before = tree(there)
    told = install(*ROLES, "--destdir", str(there))
    assert tree(there) == before
    assert "+ write" not in told


def test_a_new_unit_replaces_the_old_one_but_settings_are_kept(there: Path) -> None:
    unit = there / "etc/systemd/system/fed-router.service"
    settings = there / "etc/inference-federation/router.env"
    unit.write_text("old", encoding="utf-8")
    settings.write_text("FED_NAME=mine\n", encoding="utf-8")
    install("router", "--destdir", str(there))
    assert "ExecStart" in unit.read_text(encoding="utf-8")
    assert settings.read_text(encoding="utf-8") == "FED_NAME=mine\n"


def test_a_dry_run_changes_nothing_and_tells_all(tmp_path: Path) -> None:
    told = install(*ROLES, "--destdir", str(tmp_path), "--dry-run")
    assert list(tmp_path.iterdir()) == []
    for role in ROLES:
        assert f"--shell /usr/sbin/nologin fed-{role}" in told
        assert f"+ write {tmp_path}/etc/systemd/system/fed-{role}.service" in told
    assert "pip install" in told
    assert "[control-plane,bucket,router,edge-agent]" in told
    assert "constraints.txt" in told
    wheel = tmp_path / "x.whl"
    told = install("edge-agent", "--dry-run", "--source", str(wheel), "--extras", "amd")
    assert f"inference-federation[edge-agent,amd] @ file://{wheel}" in told


def test_uninstalling_keeps_what_cannot_be_made_again(there: Path) -> None:
    state = there / "var/lib/inference-federation/router"
    state.mkdir(parents=True)
    (state / "key").write_text("x", encoding="utf-8")
    install("--uninstall", "router", "--destdir", str(there))
    assert not (there / "etc/systemd/system/fed-router.service").exists()
    assert (there / "etc/inference-federation/router.env").exists()
    assert (state / "key").exists()
    assert (there / "etc/systemd/system/fed-edge-agent.service").exists()
    install("--uninstall", "router", "--purge", "--destdir", str(there))
    assert not state.exists()
    assert not (there / "etc/inference-federation/router.env").exists()
    install("--uninstall", "router", "--purge", "--destdir", str(there))  # and again


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "which role"),
        (("gateway",), "no role"),
        (("router", "--purge"), "belongs to --uninstall"),
        (("router", "--prefix", "opt"), "absolute path"),
        (("router", "--prefix", "/opt/a b"), "letters"),
        (("router", "--destdir"), "needs a value"),
    ],
)
def test_what_it_does_not_understand_it_refuses(arguments: tuple[str, ...], told: str) -> None:
    assert told in install(*arguments, code=2)


def test_it_says_that_it_needs_root(tmp_path: Path) -> None:
    nobody = 65534 if os.geteuid() == 0 else None
    text = SCRIPT.read_text(encoding="utf-8")
    done = subprocess.run(
        ["sh", "-s", "--", "router"],
        input=text,
        user=nobody,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "needs root" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_settings_are_such_that_the_process_takes_them(role: str) -> None:
    text = (DEPLOY / "systemd" / f"{role}.env").read_text(encoding="utf-8")
    cls, check = SETTINGS[role]
    names = set(re.findall(r"^#?(FED_\w+)=", text, re.MULTILINE))
    assert names
    assert {n for n in names if n[4:].lower() not in cls.__dataclass_fields__} == set()
    seen = dict(re.findall(r"^(FED_\w+)=(.*)$", text, re.MULTILINE))
    seen["FED_STATE_DIR"] = "/var/lib/inference-federation"
    check(load_settings(cls, prog=role, argv=[], environ=seen))


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Units whose programs are there, for systemd to look at."""
    prefix = tmp_path / "prefix"
    (prefix / "venv/bin").mkdir(parents=True)
    for role in ROLES:
        program = prefix / f"venv/bin/fed-{role}"
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
    install(*ROLES, "--destdir", str(tmp_path), "--prefix", str(prefix))
    return tmp_path / "etc/systemd/system"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        without("systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("role", ROLES)
def test_systemd_understands_every_line(units: Path, role: str) -> None:
    unit = units / f"fed-{role}.service"
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    unit.write_text(unit.read_text(encoding="utf-8").replace("Restart=", "Restrat="))
    assert "Restrat" in analyze("verify", str(unit)).stderr


@pytest.mark.parametrize("role", ROLES)
def test_systemd_finds_little_that_it_could_do_to_the_machine(units: Path, role: str) -> None:
    root = units.parents[2]
    done = analyze(
        f"--root={root}",
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={EXPOSURE}",
        f"fed-{role}.service",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
