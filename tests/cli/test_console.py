"""What the console makes of events, on a terminal and without one."""

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from fcacli.cli import console
from fcacli.errors import FcaError
from fcacli.events import Message, Progress, track


@pytest.fixture
def screen(monkeypatch):
    """Stands in for stderr; `screen.terminal` says whether it is one."""
    stream = io.StringIO()

    def stderr():
        return Console(file=stream, force_terminal=stream.terminal, width=100, highlight=False, color_system=None)

    stream.terminal = False
    monkeypatch.setattr(console, "_stderr", stderr)
    return stream


def test_without_a_terminal_a_phase_is_a_line_at_its_start_and_end(screen):
    with console.talking() as report:
        list(track(range(1000), report, "encode"))
    lines = screen.getvalue().splitlines()
    assert lines[0] == "encode: 0/1000"
    assert lines[-1].startswith("encode: 1000/1000  in 0:0")
    assert len(lines) == 2


def test_without_a_terminal_a_slow_phase_says_each_tenth_and_the_time_left(screen, monkeypatch):
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.talking() as report:
        for done in range(101):
            report(Progress("train", done, 100, {"loss": f"{1 - done / 200:.2f}"}))
    lines = screen.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{n}/100" for n in range(0, 101, 10)]
    assert lines[5] == "train: 50/100  loss 0.75  4:10 left"


def test_no_escape_codes_without_a_terminal(screen):
    with console.talking() as report:
        list(track(range(3), report, "encode"))
        report(Message("careful", "warning"))
    console.print_error(FcaError("what", "this"))
    assert "\x1b" not in screen.getvalue()


def test_on_a_terminal_a_phase_is_a_bar(screen):
    screen.terminal = True
    with console.talking() as report:
        for done in range(5):
            report(Progress("encode", done, 4, {"loss": "0.21"}))
    assert "━" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert "loss 0.21" in screen.getvalue()


def test_a_phase_may_begin_again_and_have_no_total(screen):
    for screen.terminal in (True, False):
        with console.talking() as report:
            for _ in range(2):
                list(track("ab", report, "validate"))
                list(track(iter("ab"), report, "read"))


def test_brackets_in_what_is_said_are_not_markup(screen):
    for screen.terminal in (True, False):
        with console.talking() as report:
            report(Message("[bold]something[/bold] [/] x"))
            report(Progress("[red]a[/b]", 0, 1, {"x": "[/c]"}))
        assert "[bold]something[/bold] [/] x" in screen.getvalue()
    console.print_error(FcaError("clip [something] missing", "[/try]"))
    assert "clip [something] missing" in screen.getvalue()


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, ["n", "w"]), ({"verbose": True}, ["d", "n", "w"]), ({"quiet": True}, ["w"])],
)
def test_verbosity_chooses_messages(screen, options, expected):
    with console.talking(**options) as report:
        report(Message("d", "detail"))
        report(Message("n", "note"))
        report(Message("w", "warning"))
        report(Progress("p", 0, 1))
    said = [line.removeprefix("warning: ") for line in screen.getvalue().splitlines() if not line.startswith("p:")]
    assert said == expected
    assert ("p: 0/1" in screen.getvalue()) != bool(options.get("quiet"))


def test_long_messages_are_not_broken(screen):
    console.print_error(FcaError("x" * 300, "y" * 300))
    assert screen.getvalue() == f"error: {'x' * 300}\n  try: {'y' * 300}\n"


def test_bars_end_when_the_work_fails(screen):
    screen.terminal = True
    with pytest.raises(KeyError), console.talking() as report:
        report(Progress("encode", 0, 4))
        raise KeyError
    assert screen.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


@dataclass
class Result:
    folder: Path
    psnr: float
    rows: list[tuple[str, float]]


def test_json_is_one_document_whatever_the_numbers(capsys):
    console.print_json(Result(Path("a/b"), float("inf"), [("x", float("nan")), ("ä", 1.5)]))
    out = capsys.readouterr().out
    assert json.loads(out) == {"folder": "a/b", "psnr": "inf", "rows": [["x", "nan"], ["ä", 1.5]]}


def test_where_nobody_reads_any_more_the_work_goes_on(capfd):
    """Rich would end the process at a broken pipe."""
    read, write = os.pipe()
    os.close(read)
    kept = os.dup(2)
    os.dup2(write, 2)
    try:
        with console.talking() as report:
            for done in range(3):
                report(Progress("train", done, 3))
                report(Message("careful", "warning"))
        console.print_error(FcaError("what", "this"))
    finally:
        os.dup2(kept, 2)
        for descriptor in (kept, write):
            os.close(descriptor)
