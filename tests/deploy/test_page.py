"""What docs/deploy.md tells people to type, and what they get with the source distribution."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click

from federation.cli.root import fed
from tests.deploy.files import DEPLOY, ROOT, notes

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def commands(text: str, program: str) -> list[list[str]]:
    """The lines that call a program, as words, without what follows && and #."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        match = re.match(rf"^    (?:sudo )?(?:\S*/)?{program} (.+)$", line)
        if match:
            found.append(shlex.split(match[1].split(" && ")[0], comments=True))
    return found


def test_commands_of_fed_exist_with_their_options() -> None:
    found = commands(PAGE, "fed") + commands(notes("everything"), "fed")
    found += commands((ROOT / "docs" / "gitops.md").read_text(encoding="utf-8"), "fed")
    assert len(found) > 10
    for words in found:
        _check(words)


def _check(words: list[str]) -> None:
    command: click.Command = fed
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {name for parameter in [*fed.params, *command.params] for name in parameter.opts}
    assert {w.partition("=")[0] for w in words if w.startswith("--")} <= known, words


def test_paths_that_the_page_names_exist() -> None:
    named = set(re.findall(r"\bdeploy/[\w./-]*\w", PAGE))
    assert len(named) > 5
    assert {path for path in named if not (ROOT / path).exists()} == set()
    folders = re.findall(r"^\| `([\w/-]+)` \|", PAGE, re.MULTILINE)
    kubernetes = DEPLOY / "kubernetes"
    bases = {p.parent.relative_to(kubernetes) for p in kubernetes.rglob("kustomization.yaml")}
    assert {Path(folder) for folder in folders} == bases - {Path("all-in-one")}


def test_options_of_the_script_that_the_page_names_exist() -> None:
    script = (DEPLOY / "install.sh").read_text(encoding="utf-8")
    for words in commands(PAGE, r"install\.sh"):
        assert set(words) <= {"control-plane", "router", "edge-agent"}
    for option in ("--dry-run", "--source", "--destdir", "--uninstall", "--purge", "--help"):
        assert option in PAGE
        assert re.search(rf"^\s+(-h \| )?{option}\)", script, re.MULTILINE)


def test_the_source_distribution_has_all_that_an_installation_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    assert {"/deploy", "/constraints.txt", "/docs", "/federation", "/router"} <= included
    assert (DEPLOY / "install.sh").stat().st_mode & 0o111
    # What git ignores, the source distribution leaves out.
    ours = [str(p) for p in DEPLOY.rglob("*") if p.is_file()]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *ours],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
