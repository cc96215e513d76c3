"""The Dockerfile, read line by line. No image is built here: that needs a Docker daemon."""

import json
import re
import shlex
import tomllib
from dataclasses import dataclass, field

import pytest

from tests.deploy.files import DEPLOY, IMAGES, ROOT
from tests.deploy.test_manifests import SETTINGS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD_TOOLS = re.compile(r"\b(gcc|build-essential|cmake|apt-get|git|curl)\b")
SECRET = re.compile(r"(?i)(token|secret|password|passwd|api_?key)\s*=")


@dataclass
class Stage:
    """One FROM with what follows it."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [text for step, text in self.steps if step == word]


def stages() -> dict[str, Stage]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    stage = None
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            matched = re.fullmatch(r"(\S+) AS (\S+)", rest)
            assert matched, line
            stage = found[matched[2]] = Stage(matched[2], matched[1])
        elif stage is None:
            assert word == "ARG"
        else:
            stage.steps.append((word, rest.strip()))
    return found


def final(role: str) -> list[tuple[str, str]]:
    """All steps of a role's image, with those of the stages below it."""
    every, stage = stages(), stages()[role]
    steps = list(stage.steps)
    while stage.base in every:
        stage = every[stage.base]
        steps = stage.steps + steps
    assert stage.base == "${BASE}"
    return steps


def test_the_base_is_slim_and_has_a_version() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)


@pytest.mark.parametrize("role", IMAGES)
def test_an_image_runs_as_nobody_and_starts_its_role(role: str) -> None:
    steps = final(role)
    users = [text for word, text in steps if word == "USER"]
    assert users[-1] == "10001:10001"
    assert [word for word, _ in steps].index("USER") > [word for word, _ in steps].index("COPY")
    (entry,) = (json.loads(text) for word, text in steps if word == "ENTRYPOINT")
    assert entry == [f"fed-{role}"]
    assert entry[0] in PROJECT["scripts"]
    (health,) = (text for word, text in steps if word == "HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    compile(command[2], "healthcheck", "exec")
    assert "/healthz" in command[2]


@pytest.mark.parametrize("role", IMAGES)
def test_an_image_holds_neither_build_tools_nor_secrets(role: str) -> None:
    for word, text in final(role):
        assert word != "ADD"
        assert not SECRET.search(text), text
        if word == "RUN":
            assert not BUILD_TOOLS.search(text), text
            assert "pip" not in text
        if word == "COPY":
            assert text == f"--from=build-{role} /opt/venv /opt/venv"


@pytest.mark.parametrize("role", IMAGES)
def test_software_is_pinned_and_its_extras_exist(role: str) -> None:
    (command,) = stages()[f"build-{role}"].all("RUN")
    words = shlex.split(command)
    assert words[words.index("-c") + 1] == "constraints.txt"
    extras = re.fullmatch(r"\.\[(.+)\]", words[-1])
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert extras[1].split(",")[0] == role


@pytest.mark.parametrize("role", IMAGES)
def test_its_settings_are_settings(role: str) -> None:
    names = {
        name
        for word, text in final(role)
        if word == "ENV"
        for name in re.findall(r"\b(FED_\w+)=", text)
    }
    if role == "bridge":
        names.discard("FED_STATE_DIR")  # of all images; it has no state
    assert names
    assert {
        n for n in names if n[4:].lower() not in SETTINGS[role][0].__dataclass_fields__
    } == set()


def test_what_is_copied_is_there_and_the_rest_stays_out() -> None:
    copied = [word for text in stages()["build"].all("COPY") for word in text.split()[:-1]]
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignore
