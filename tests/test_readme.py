"""What the README names exists."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fcacli import config
from fcacli.cli.app import app
from fcacli.cli.completions import commands
from fcacli.model.bases import DEFAULTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_OTHER_PROGRAMS = {"--local-dir", "--check"}


def test_every_option_in_the_readme_exists():
    known = {name for entry in commands() for flag in entry.flags for name in flag.names} | OF_OTHER_PROGRAMS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) <= known


@pytest.mark.parametrize("line", [line for line in README.splitlines() if line.startswith("fca ")])
def test_every_command_line_in_the_readme_is_understood(line):
    words = shlex.split(line.split("#")[0])
    outcome = CliRunner().invoke(app, [*words[1:], "--help"])
    assert outcome.exit_code == 0, outcome.output


def test_every_field_in_the_table_of_readings_exists_with_its_choices():
    table = README.split("What the paper leaves open")[1].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table if line.startswith("| `")]
    adapter = {field.name: field for field in dataclasses.fields(config.FCAConfig)}
    named = [name for cell, _, _ in rows for name in re.findall(r"`([a-z_.]+)`", cell)]
    assert {"adapter.modulation", "adapter.mask", "caption_dropout"} <= set(named)
    train = {field.name for field in dataclasses.fields(config.TrainConfig)}
    for name in named:
        assert name.split(".")[0] in train or name in adapter, name
        assert "." not in name or name.split(".")[1] in adapter or name in ("sample.guidance", "sample.sampler"), name
    for cell, default, _ in rows:
        if cell.startswith("`adapter.") and default.startswith("`") and not default.startswith("`--"):
            field = adapter[re.findall(r"`adapter\.(\w+)`", cell)[0]]
            assert default.strip("`") == str(field.default), cell


def test_every_reading_that_is_a_field_is_in_the_table():
    table = README.split("What the paper leaves open")[1].split("## Files")[0]
    for field in dataclasses.fields(config.FCAConfig):
        assert field.name == "kind" or f"{field.name}`" in table, field.name


def test_the_table_has_the_defaults_of_the_bundled_base():
    row = DEFAULTS["mini"][1]
    table = README.split("What the paper leaves open")[1].split("## Files")[0]
    for said in (
        f"mini {row.adapter_width} |",
        f"16, mini {row.tokens_per_frame} |",
        f"mini {row.text_width}, {row.text_heads}, {row.text_blocks} |",
        f"6, mini {row.guidance:g} |",
        f"1, mini {row.timestep_power:g} |",
        f"mini `{row.sampler}` |",
        f"2B {DEFAULTS['cogvideox-2b'][1].adapter_width}, 5B {DEFAULTS['cogvideox-5b'][1].adapter_width},",
    ):
        assert said in table, said


def test_every_file_named_in_the_file_map_exists():
    block = README.split("## Files")[1].split("## ")[0]
    for name in re.findall(r"\b([a-z_0-9]+(?:\.py|/))", block):
        assert list((ROOT).glob(f"**/{name.rstrip('/')}")), name


def test_the_changelog_names_this_version():
    from fcacli import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
