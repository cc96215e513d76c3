"""`python -m benchmarks.chunking` prints what it promises."""

from pathlib import Path

import pytest

from benchmarks.chunking import __main__ as benchmark
from benchmarks.chunking.pairs import Maker, Shape
from benchmarks.chunking.speed import scanning


def test_it_prints_the_table_and_the_speeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Shape(hidden=64, layers=2, vocabulary=500)
    rows, noise = benchmark._rows(Maker(tiny), tmp_path)
    benchmark._print_rows(rows)
    benchmark._print_speeds(scanning(tmp_path / "speed", 16 << 20), noise)
    said = capsys.readouterr().out
    assert "| norms only |" in said
    assert "% with the weight delta" in said
    assert "| scan (all of it) |" in said
    assert "decode XOR + 2 planes + zstd" in said
