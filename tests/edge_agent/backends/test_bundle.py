import dataclasses
import subprocess
import sys
from pathlib import Path

from edge_agent.backends.bundle import served_package, write_bundle
from edge_agent.serving.package import read_package
from federation.contract.capacity import Resources
from tests.engines.packages import add_package, count_package


def test_the_bundle_needs_nothing_else_of_this_project(tmp_path: Path) -> None:
    staged = add_package(tmp_path)
    target = tmp_path / "bundle"
    write_bundle(target, staged, package_folder="model")
    program = (
        "import sys, edge_agent.serving.app as app, edge_agent.serving.models as models\n"
        "from edge_agent.serving.package import read_package\n"
        "from pathlib import Path\n"
        "package = read_package(Path('model'))\n"
        "models.load_model(Path('model'), package)\n"
        "assert app.__file__.startswith(sys.argv[1]), app.__file__\n"
        "assert not any(name.partition('.')[0] in ('federation', 'yaml', 'aiohttp', 'ray')"
        " for name in sys.modules), 'imports too much'\n"
        "print(package.name, package.digest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(target)],
        cwd=target,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout.split() == ["add", staged.digest], done.stderr
    assert not list(target.glob("edge_agent/**/__pycache__/test_*"))


def test_the_package_is_told_in_json(tmp_path: Path) -> None:
    staged = count_package(tmp_path, version=3)
    package = dataclasses.replace(staged.package, resources=Resources(gpus=2))
    served = served_package(dataclasses.replace(staged, package=package))
    assert (served.name, served.version, served.gpus) == ("count", 3, 2)
    assert (served.runtime, served.protocol, served.file) == ("python", "text", "model.py")
    write_bundle(tmp_path / "b", staged, package_folder="model")
    assert read_package(tmp_path / "b" / "model") == served_package(staged)
