"""`fca` as a program: version, help, wrong options."""

import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fcacli import __version__
from fcacli.cli.app import app
from fcacli.cli.completions import commands
from fcacli.model.bases import DEFAULTS

COMMANDS = [
    *("prepare", "plan", "train", "predict", "eval", "compare"),
    *("demo", "benchmark", "toy", "weights", "doctor", "completions"),
]


def fca(*arguments, env=None):
    """Run a command in this process; a wide plain screen, so that messages are not broken."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1", **(env or {})})


def plain(text: str) -> str:
    """Text without escape codes and box lines, blanks joined."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[│╭╮╰╯─]", " ", text).split())


def test_version():
    assert fca("--version").stdout == f"fca {__version__}\n"


def test_both_entry_points_are_the_same_program():
    done = subprocess.run([sys.executable, "-m", "fcacli", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"fca {__version__}\n")


def test_no_command_shows_the_help():
    outcome = fca()
    assert "Usage: fca" in plain(outcome.output)
    for name in COMMANDS:
        assert name in outcome.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_an_example_or_a_plain_sentence(name):
    for flag in ("--help", "-h"):
        outcome = fca(name, flag)
        assert outcome.exit_code == 0
        assert f"Usage: fca {name}" in plain(outcome.stdout)


def test_every_option_says_what_it_does():
    assert [entry.name for entry in commands()] == COMMANDS
    for entry in commands():
        assert entry.help
        for flag in entry.flags:
            assert flag.help, f"fca {entry.name} {flag.names[0]}"


def test_the_help_names_every_known_base():
    text = plain(fca("train", "--help").stdout)
    for name in DEFAULTS:
        assert name in text


def test_no_colour_when_asked():
    code = "from fcacli.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--steps", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"NO_COLOR": "1", "FORCE_COLOR": "1", "PATH": ""},
    )
    assert done.returncode == 2
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--steps", "0"], "--steps"),
        (["train", "--steps", "many"], "--steps"),
        (["train", "--batch-size", "0"], "--batch-size"),
        (["train", "--adapter", "ia3"], "ia3"),
        (["train", "--adapter-width", "-1"], "--adapter-width"),
        (["train", "--optimizer", "sgd"], "sgd"),
        (["train", "--size", "48"], "--size takes WIDTHxHEIGHT"),
        (["train", "--size", "axb"], "--size takes WIDTHxHEIGHT"),
        (["train", "--set", "modulation"], "--set takes FIELD=VALUE"),
        (["train", "--gpus", "-1"], "--gpus"),
        (["train", "--frames", "1"], "--frames"),
        (["train", "-v", "-q"], "--verbose and --quiet"),
        (["train", "--colour", "red"], "--colour"),
        (["predict"], "FRAMES"),
        (["predict", "frames"], "TEXT"),
        (["predict", "frames", "text", "--num", "0"], "--num"),
        (["predict", "frames", "text", "--steps", "0"], "--steps"),
        (["predict", "frames", "text", "--guidance", "-1"], "--guidance"),
        (["predict", "frames", "text", "--offload", "disk"], "disk"),
        (["eval", "--pred", "a"], "--pred and --real"),
        (["eval", "--given", "2"], "--given"),
        (["eval", "--pred", "a", "--real", "b", "--run", "x"], "--run"),
        (["compare"], "RESULTS"),
        (["compare", "a", "a"], "a is named twice"),
        (["prepare"], "READER"),
        (["prepare", "ssv2"], "RAW"),
        (["prepare", "ssv2", "raw", "--limit", "0"], "--limit"),
        (["prepare", "ssv2", "raw", "--split", "dev"], "dev"),
        (["toy", "out", "--clips", "0"], "--clips"),
        (["completions", "tcsh"], "tcsh"),
        (["unknown"], "unknown"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_named_and_exits_with_2(arguments, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = fca(*arguments)
    assert outcome.exit_code == 2
    assert named.lower() in plain(outcome.stderr).lower()
    assert outcome.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_doctor_reports_the_facts_as_json():
    outcome = fca("doctor", "--json")
    found = json.loads(outcome.stdout)
    assert found["fca"] == __version__
    assert found["packages"]["torch"] != "missing"
    assert found["decoders"]["vp9"] != "missing"
    assert found["encoders"]["h264"] == "libx264"
    assert found["mini_mib"] < 12.1
    assert found["base"]
    assert found["problems"] == []


def test_doctor_says_the_same_to_people():
    outcome = fca("doctor")
    assert outcome.exit_code == 0
    for name in ("python", "torch", "cpu", "decoders", "--base auto"):
        assert re.search(rf"^{name} +\S", outcome.stdout, re.MULTILINE), name


def test_doctor_exits_with_1_when_something_is_missing(monkeypatch):
    from fcacli.workflows import doctor

    monkeypatch.setattr(doctor, "PACKAGES", (*doctor.PACKAGES, "no-such-package"))
    outcome = fca("doctor")
    assert outcome.exit_code == 1
    assert "no-such-package is missing" in outcome.stdout
