import subprocess
from pathlib import Path

from federation.demo.watchdog import watch


def test_groups_that_never_ended_are_killed_and_the_directory_goes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with (
        subprocess.Popen(["sleep", "60"], start_new_session=True) as left,
        subprocess.Popen(["sleep", "60"], start_new_session=True) as ended,
    ):
        watch([f"+{left.pid}\n", f"+{ended.pid}\n", f"-{ended.pid}\n"], run)
        assert left.wait(5) == -9
        assert ended.poll() is None
        ended.kill()
    assert not run.exists()


def test_files_are_kept_when_told_so(tmp_path: Path) -> None:
    watch(["keep\n"], tmp_path)
    assert tmp_path.exists()
