"""Wall time of `fca --help` against a bare typer program, in turns, the best of each."""

import subprocess
import sys
import time

import pytest

BARE = """
import typer
app = typer.Typer()
@app.command()
def one(name: str = "x"):
    "Say one."
@app.command()
def two(name: str = "x"):
    "Say two."
app()
"""
PROGRAMS = {"bare typer": ["-c", BARE, "--help"], "fca": ["-m", "fcacli", "--help"]}
LIMIT = 2.5


def measure(rounds: int = 15) -> dict[str, float]:
    """Seconds of wall time of each program, the best of `rounds`, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds + 1):
        for name, arguments in PROGRAMS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    return {name: min(some[1:]) for name, some in times.items()}


@pytest.mark.benchmark
def test_help_takes_at_most_two_and_a_half_times_a_bare_typer_program():
    seconds = measure()
    ratio = seconds["fca"] / seconds["bare typer"]
    print(", ".join(f"{name} {value * 1000:.0f} ms" for name, value in seconds.items()), f"ratio {ratio:.2f}")
    assert ratio <= LIMIT
