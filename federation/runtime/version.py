"""Which version of this software is installed.

Input: the folders that Python imports from. Output: a version, found once. It stands in the name of
the folder that an installer leaves beside a package (https://packaging.python.org/en/latest/
specifications/recording-installed-packages/); `importlib.metadata` keeps a megabyte for finding it.
"""

import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_PROJECT = "inference_federation"


@cache
def software_version() -> str:
    """Return the version of this process's software, "unknown" if it was not installed."""
    return version_in(sys.path)


def version_in(folders: Iterable[str]) -> str:
    """Return the version that lies in the first folder that has one, "unknown" if none has."""
    for folder in folders:
        for found in Path(folder).glob(f"{_PROJECT}-*.dist-info"):
            return found.name.removeprefix(f"{_PROJECT}-").removesuffix(".dist-info")
    return "unknown"
