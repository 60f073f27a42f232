"""Progress bars: on stderr alone, each with its own count."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vadpipe.pipeline.engine import progress
from vadpipe.pipeline.engine.progress import console, progress_bar, progress_bars, tell


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal would be told."""
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(progress, "console", terminal)
    return text


def test_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("2 videos failed")
    with progress_bar("extract", 3) as advance:
        advance(3)
    out, err = capsys.readouterr()
    assert out == "" and "2 videos failed" in err


def test_a_bar_counts_up_to_its_total(screen: io.StringIO) -> None:
    with progress_bar("extract", 40) as advance:
        for _ in range(4):
            advance(10)
    last = screen.getvalue().rpartition("extract")[2]
    assert "40/40" in last


def test_several_bars_have_a_count_each(screen: io.StringIO) -> None:
    with progress_bars() as add:
        one, other = add("read", 5), add("train", 7)
        one(2)
        other(3)
        one(1)
    shown = screen.getvalue()
    assert "3/5" in shown.rpartition("read")[2] and "3/7" in shown.rpartition("train")[2]


def test_an_error_inside_comes_out(screen: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError), progress_bar("extract", 1):
        raise ZeroDivisionError


def test_what_is_told_is_text_and_no_markup(screen: io.StringIO) -> None:
    """Names of files with brackets, escape sequences and lines longer than the screen."""
    tell("[/bold] [red]x[/] \x1b[31m " + "y" * 200, style="yellow")
    assert screen.getvalue() == "[/bold] [red]x[/] \\x1b[31m " + "y" * 200 + "\n"
    with progress_bar("[/bold]", 2) as advance:
        advance(1)
    assert "[/bold]" in screen.getvalue()


def test_bars_of_two_runs_share_the_screen(screen: io.StringIO) -> None:
    """A terminal has one display; the first that ends does not take it from the other."""
    first, second = progress_bar("first", 4), progress_bar("second", 6)
    advance_first = first.__enter__()
    advance_second = second.__enter__()
    advance_first(4)
    first.__exit__(None, None, None)
    advance_second(6)
    second.__exit__(None, None, None)
    assert "4/4" in screen.getvalue()
    assert "6/6" in screen.getvalue().rpartition("second")[2]
    with progress_bar("third", 2) as advance:
        advance(2)
    assert "2/2" in screen.getvalue().rpartition("third")[2]
