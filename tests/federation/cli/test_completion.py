import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation.cli.conftest import Fed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_that_asks_fed(fed_alone: Fed, shell: str) -> None:
    result = fed_alone("completion", shell)
    assert result.code == 0
    assert "_FED_COMPLETE" in result.out
    assert fed_alone("completion", "tcsh").code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_reads_the_script_and_completes(fed_alone: Fed, tmp_path: Path) -> None:
    program = tmp_path / "fed"
    program.write_text(f"#!{sys.executable}\nfrom federation.cli import main\nmain()\n")
    program.chmod(0o755)
    script = fed_alone("completion", "bash").out
    ask = "COMP_WORDS=(fed unc); COMP_CWORD=1; COMP_WORDS=(fed cluster unc); COMP_CWORD=2"
    line = f'{script}\n{ask}\n_fed_completion {program}\necho "${{COMPREPLY[@]}}"'
    shown = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=20, check=True
    )
    assert shown.stdout.strip() == "uncordon"
