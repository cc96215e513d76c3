"""The credentials that `docker login` and `oras login` keep.

Input: config.json in DOCKER_CONFIG or ~/.docker, and the helpers that it names. Output: a user and
a password for a registry, or None.
"""

import json
import os
import re
import subprocess
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation.contract.errors import Invalid

_HELPER = re.compile(r"[A-Za-z0-9_-]+")
_HELPER_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are to one registry."""

    user: str
    password: str = field(repr=False)


def login_for(registry: str) -> Login | None:
    """Return the login that is kept for a registry; raises Invalid if the file is unreadable."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    path = Path(folder, "config.json")
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Invalid(f"cannot read {path}: {type(error).__name__}.") from None
    if not isinstance(config, dict):
        return None
    helper = _section(config, "credHelpers").get(registry) or config.get("credsStore")
    if isinstance(helper, str) and _HELPER.fullmatch(helper) and (found := _ask(helper, registry)):
        return found
    auths = _section(config, "auths")
    for key in _names(registry):
        entry = auths.get(key)
        if isinstance(entry, dict) and isinstance(entry.get("auth"), str):
            return _decoded(entry["auth"], path)
    return None


def _names(registry: str) -> list[str]:
    names = [registry, f"https://{registry}", f"https://{registry}/v2/"]
    if registry == "docker.io":
        names += ["https://index.docker.io/v1/", "index.docker.io"]
    return names


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _decoded(auth: str, path: Path) -> Login | None:
    if not auth:
        return None
    try:
        user, _, password = b64decode(auth, validate=True).decode().partition(":")
    except ValueError:
        raise Invalid(f"a login in {path} is not base64.") from None
    return Login(user, password)


def _ask(helper: str, registry: str) -> Login | None:
    server = "https://index.docker.io/v1/" if registry == "docker.io" else registry
    try:
        done = subprocess.run(  # noqa: S603  # the user's own configuration names the program
            [f"docker-credential-{helper}", "get"],
            input=server.encode(),
            capture_output=True,
            check=True,
            timeout=_HELPER_TIMEOUT_S,
        )
        answer = json.loads(done.stdout)
        return Login(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None  # it has none, or is not installed: perhaps the registry is open to all
