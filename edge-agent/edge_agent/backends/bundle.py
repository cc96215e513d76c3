"""Puts a package together with the serving app, as an engine wants to find it.

Input: a StagedVersion with a verified package directory. Output: a folder with the package (and its
package.json) and a copy of `edge_agent.serving`, which needs nothing else of this project.
"""

import shutil
from pathlib import Path

import edge_agent.serving
from edge_agent.backends.base import StagedVersion
from edge_agent.serving.package import ServedPackage, write_package
from edge_agent.serving.v2_terms import Tensor

_SERVING = Path(edge_agent.serving.__file__).parent


def served_package(staged: StagedVersion) -> ServedPackage:
    """Return what the serving app needs to know of a version."""
    package = staged.package
    return ServedPackage(
        name=staged.model,
        version=staged.version,
        digest=staged.digest,
        runtime=package.runtime.value,
        protocol=package.protocol.value,
        file=package.file,
        inputs=tuple(
            Tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in package.inputs
        ),
        outputs=tuple(
            Tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in package.outputs
        ),
        parameters=package.parameters,
        warmup=package.warmup,
        gpus=package.resources.gpus,
    )


def write_bundle(target: Path, staged: StagedVersion, *, package_folder: str) -> None:
    """Write the serving app and the package into `target`, which may exist."""
    code = target / "edge_agent"
    shutil.copytree(_SERVING, code / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    (code / "__init__.py").write_text("", encoding="utf-8")
    directory = target / package_folder
    shutil.copytree(staged.directory, directory)
    write_package(directory, served_package(staged))
