"""One target under libFuzzer: `python -m tests.fuzz.worker TARGET [options of libFuzzer] CORPUS`.

Input: a corpus directory. Output: what libFuzzer writes; exit status 0 if nothing was found. The
packages that are fuzzed are instrumented while they are imported, so this module imports them late.
"""

import sys


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    import atheris

    packages = ["federation", "router", "edge_agent"]
    # The generated code hands its descriptors to C, and msgspec compiles what it is given.
    with atheris.instrument_imports(include=packages, enable_loader_override=False):
        from tests.fuzz.targets import TARGETS
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name], internal_libfuzzer=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
