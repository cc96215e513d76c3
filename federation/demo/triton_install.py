"""A real Triton Inference Server on this machine, without Docker: how it comes and starts.

Input: a cache folder and PyPI. The wheel `nvidia-pytriton` carries the true tritonserver with its
Python backend; only the binary is used, none of the wheel's Python. Output: a TritonInstallation
that makes command lines; the models run in a virtual environment of their own, since this Triton
reads numpy 2 arrays wrongly.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from federation.contract.errors import Unavailable
from federation.demo.fetch import FetchFailed, last_line, locked, pip, run

WHEEL = "nvidia-pytriton==0.7.0"
TRITON_VERSION = "2.51.0"
MODEL_REQUIREMENTS = ("numpy>=1.26,<2", "onnxruntime>=1.20")
_PYTHONS = ("3.11", "3.12")  # have both a stub in the wheel and a numpy below 2
_DESCRIBE = (
    "import json,sys,sysconfig as s; v=s.get_config_var;"
    "print(json.dumps([sys.executable, '%d.%d' % sys.version_info[:2],"
    " v('LIBDIR'), v('LDLIBRARY'), sys.base_prefix]))"
)


class TritonUnavailable(Unavailable):
    """This machine cannot run the packaged Triton; the message says why."""

    reason = "triton-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonPorts:
    """The three ports of one server, all on the loopback."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonInstallation:
    """The unpacked server and the environment of its models, both below `root`."""

    root: Path
    libpython: str  # the folder with the libpython that the models' stub links to

    def command(self, repository: Path, ports: TritonPorts, *, name: str = "triton") -> list[str]:
        """Return the command line of a server that loads models only when told to."""
        home = self.root / "server" / "pytriton" / "tritonserver"
        return [
            str(home / "bin" / "tritonserver"),
            f"--id={name}",
            f"--model-repository={repository}",
            "--model-control-mode=explicit",
            "--disable-auto-complete-config",
            "--strict-readiness=false",  # else the server is "not ready" during each load
            f"--backend-directory={home / 'backends'}",
            f"--cache-directory={home / 'caches'}",
            *(
                f"--{door}-{setting}={value}"
                for door, port in (
                    ("http", ports.http),
                    ("grpc", ports.grpc),
                    ("metrics", ports.metrics),
                )
                for setting, value in (("address", "127.0.0.1"), ("port", port))
            ),
            "--exit-timeout-secs=5",
        ]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that the server's process needs, on top of `base`.

        The stub that runs the models takes its environment from the first python3 on PATH and its
        libpython from LD_LIBRARY_PATH; it ignores PYTHONPATH.
        """
        own = {k: v for k, v in base.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        libraries = f"{self.libpython}:{self.root / 'server' / 'nvidia_pytriton.libs'}"
        own["PATH"] = f"{self.root / 'env' / 'bin'}:{base.get('PATH', '/usr/bin:/bin')}"
        own["LD_LIBRARY_PATH"] = libraries
        return own


def default_cache() -> Path:
    """Return the folder for what set-up fetches, by the XDG rule."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "inference-federation"


def ensure_triton(
    cache: Path | None = None, *, say: Callable[[str], None] = lambda _: None
) -> TritonInstallation:
    """Return the installation below `cache`; fetch it the first time (about 100 MB).

    Safe to call from several processes at once; a crash leaves nothing half done. Raises
    TritonUnavailable where no wheel fits, with the reason.
    """
    cache = cache or default_cache()
    if sys.platform != "linux":
        raise TritonUnavailable(f"There is no Triton wheel for {sys.platform}, only for Linux.")
    root = cache / f"triton-{TRITON_VERSION}"
    record = root / "installation.json"
    with locked(cache, "triton"):
        if not record.exists():
            shutil.rmtree(root, ignore_errors=True)
            try:
                _install(cache, root, say)
            except FetchFailed as error:
                raise TritonUnavailable(error.message, hint=error.hint) from None
    libpython = json.loads(record.read_text(encoding="utf-8"))["libpython"]
    return TritonInstallation(root=root, libpython=libpython)


def _install(cache: Path, root: Path, say: Callable[[str], None]) -> None:
    python, version, libpython = _find_python()
    with tempfile.TemporaryDirectory(dir=cache, prefix=".triton-") as folder:
        building = Path(folder) / "triton"
        say(f"fetching Triton {TRITON_VERSION} ({WHEEL})")
        pip("install", "--no-deps", "--target", str(building / "server"), WHEEL)
        home = building / "server" / "pytriton" / "tritonserver"
        stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy2(stub, home / "backends" / "python" / stub.name)
        say(f"making the models' environment ({', '.join(MODEL_REQUIREMENTS)})")
        environment = building / "env"
        run([python, "-m", "venv", "--without-pip", str(environment)])
        pip("install", *MODEL_REQUIREMENTS, python=str(environment / "bin" / "python"))
        finished = TritonInstallation(root=building, libpython=libpython)
        _try_out(home / "bin" / "tritonserver", finished.environment(os.environ))
        (building / "installation.json").write_text(
            json.dumps({"wheel": WHEEL, "python": version, "libpython": libpython}),
            encoding="utf-8",
        )
        building.rename(root)


def _try_out(server: Path, environment: Mapping[str, str]) -> None:
    """Raise TritonUnavailable if the dynamic loader refuses the binary, e.g. an old glibc."""
    asked = [str(server), "--help"]  # its exit code is 1 even when all is well
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    if "--model-repository" not in done.stdout + done.stderr:
        raise TritonUnavailable(f"tritonserver does not start here: {last_line(done)}.")


def _find_python() -> tuple[str, str, str]:
    """Return interpreter, its version and the folder of its shared libpython."""
    tried = []
    names = [sys.executable, *(f"python{version}" for version in _PYTHONS)]
    for name in names:
        found = shutil.which(name)
        described = _describe(found) if found else None
        if described is None:
            continue
        executable, version, folder, library, prefix = described
        if version not in _PYTHONS:
            tried.append(f"{name} is {version}")
            continue
        for place in (folder, f"{prefix}/lib"):
            if place and next(Path(place).glob(f"libpython{version}.so*"), None):
                return executable, version, place
        tried.append(f"{name} has no shared {library}")
    raise TritonUnavailable(
        f"Triton's models need Python {' or '.join(_PYTHONS)} with a shared libpython"
        f" ({'; '.join(tried) or 'none found'}).",
        hint="On Debian and Ubuntu: apt install libpython3.11.",
    )


def _describe(python: str) -> list[str] | None:
    done = subprocess.run([python, "-c", _DESCRIBE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    described: list[str] = json.loads(done.stdout)
    return described
