import sys
import threading
import time
from pathlib import Path

import pytest

from federation.demo.fetch import FetchFailed, fetch_wheel, locked, run


def test_a_wheel_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "some_thing-1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    assert fetch_wheel(tmp_path, "some_thing==1.2") == wheel


def test_a_failed_command_is_one_sentence() -> None:
    program = "import sys; print('first', file=sys.stderr); sys.exit('the reason')"
    with pytest.raises(FetchFailed, match="failed: the reason") as caught:
        run([sys.executable, "-c", program])
    assert "connection to the package index" in caught.value.hint
    with pytest.raises(FetchFailed, match="exit code 3"):
        run([sys.executable, "-c", "import sys; sys.exit(3)"])


def test_a_wheel_that_does_not_exist_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(FetchFailed, match="surely-no-such-package"):
        fetch_wheel(tmp_path, "surely-no-such-package==1.0")
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == ["wheels"]


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    seen: list[int] = []

    def work(number: int) -> None:
        with locked(tmp_path, "x"):
            inside.append(number)
            seen.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 4
