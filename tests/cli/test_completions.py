"""The scripts in completions/ are what the commands are now, and work in the shells that are here."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fcacli.cli.completions import script

FOLDER = Path(__file__).parents[2] / "completions"
FILES = {"bash": "fca.bash", "zsh": "_fca", "fish": "fca.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_the_generated_files_are_fresh(shell):
    fresh = script(shell)
    assert (FOLDER / FILES[shell]).read_text() == fresh, f"run: fca completions {shell} > completions/{FILES[shell]}"


@pytest.mark.parametrize("shell", FILES)
def test_the_scripts_parse(shell):
    if not (program := shutil.which(shell)):
        pytest.skip(f"no {shell} here")
    done = subprocess.run([program, "-n", str(FOLDER / FILES[shell])], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def complete(words: list[str], folder: Path) -> list[str]:
    """What bash offers for the last of `words`."""
    listed = " ".join(f"'{word}'" for word in words)
    setup = f"source {FOLDER}/fca.bash; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}"
    code = setup + "; _fca; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fca", "pr"], ["prepare", "predict"]),
        (["fca", "prepare", "ss"], ["ssv2"]),
        (["fca", "train", "--adapter-w"], ["--adapter-width"]),
        (["fca", "train", "--adapter", ""], ["fca", "lora", "fca-in-context", "fca-lora"]),
        (["fca", "train", "--base", "cogvideox-"], ["cogvideox-2b", "cogvideox-5b"]),
        (["fca", "predict", "--run", ""], ["one", "two"]),
        (["fca", "train", "--data", ""], ["cups"]),
        (["fca", "predict", "fr"], ["frames of mine"]),
        (["fca", "train", "--steps", ""], [""]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bash_offers(words, offered, tmp_path):
    for path in ("runs/one", "runs/two", "data/cups", "frames of mine"):
        (tmp_path / path).mkdir(parents=True)
    assert complete(words, tmp_path) == offered


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_fish_offers_options_with_their_help():
    code = f"source {FOLDER}/fca.fish; complete -C 'fca train --adapter-w'"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("--adapter-width\tWidth of the parallel attention")
