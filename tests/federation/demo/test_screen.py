import io

from federation.demo.screen import Screen, table_lines
from federation.runtime.clock import ManualClock


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_tells_its_name_its_detail_and_the_seconds() -> None:
    clock, out = ManualClock(), io.StringIO()
    screen = Screen(out, clock=clock)
    clock.advance(2.5)
    screen.step("router-eu", "http://127.0.0.1:7400")
    screen.step("eu-west", "broken", ok=False)
    assert out.getvalue().splitlines() == [
        "  ✓    2.5 s  router-eu                   http://127.0.0.1:7400",
        "  ✗    2.5 s  eu-west                     broken",
    ]


def test_a_pipe_sees_no_colour_and_no_movement() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.redraw(["a"])
    screen.note("careful")
    assert out.getvalue() == "  ! careful\n"


def test_a_terminal_sees_the_second_picture_over_the_first() -> None:
    out = _Terminal()
    screen = Screen(out)
    screen.redraw(["a", "b"])
    screen.redraw(["c"])
    assert out.getvalue().endswith("a\nb\n\x1b[2A\r\x1b[0Jc\n")


def test_tables_are_aligned() -> None:
    assert table_lines(["NAME", "N"], [["eu-west", "1"], ["x", ""]]) == [
        "  NAME      N",
        "  eu-west   1",
        "  x",
    ]
