from federation.cli.checks.finding import exit_code, failed, ok, warning


def test_only_failures_make_the_exit_code_one() -> None:
    assert exit_code([]) == 0
    assert exit_code([ok("a", "x"), warning("b", "y", "do")]) == 0
    assert exit_code([ok("a", "x"), failed("b", "y", "do")]) == 1
