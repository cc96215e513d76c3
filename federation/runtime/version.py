"""Which version of this software is installed.

Input: the folders that Python imports from. Output: a version. It stands in the name of the folder
that an installer leaves beside a package (https://packaging.python.org/en/latest/specifications/
recording-installed-packages/); `importlib.metadata` keeps a megabyte of memory for finding it.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

_PROJECT = "inference_federation"


def software_version(folders: Iterable[str] | None = None) -> str:
    """Return the version, "" if this was not installed."""
    for folder in sys.path if folders is None else folders:
        for found in Path(folder).glob(f"{_PROJECT}-*.dist-info"):
            return found.name.removeprefix(f"{_PROJECT}-").removesuffix(".dist-info")
    return ""
