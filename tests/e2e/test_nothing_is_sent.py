"""No command looks up a name or opens a connection unless a hub model is named; offline mode is honoured."""

import os
import subprocess
import sys

from processes import ENVIRONMENT

SILENT = """
import sys
sys.path.insert(0, {folder!r})
import faults
faults.no_network({note!r})
from fcacli.cli.app import main
sys.argv = ["fca", *{words!r}]
main()
"""


def fca(folder, note, words, **environment) -> subprocess.CompletedProcess:
    """A plain new process, so that what libraries do when they are imported counts, too."""
    script = SILENT.format(folder=os.path.dirname(__file__), note=str(note), words=list(map(str, words)))
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=settings | ENVIRONMENT | {"HF_HOME": str(folder / "hub")} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_four_commands_use_no_network(server, tmp_path, raw, options):
    note = tmp_path / "connections"
    faults = (("no_network", {"note": str(note)}),)
    server.run(tmp_path, "prepare", "ssv2", raw, "--workers", 1, faults=faults)
    trained = fca(tmp_path, note, ["train", *options])
    assert trained.returncode == 0, trained.stderr
    server.run(tmp_path, "predict", next(raw.rglob("7.webm")), "up", faults=faults)
    server.run(tmp_path, "eval", faults=faults)
    assert not note.exists(), note.read_text()


def test_a_named_hub_model_in_offline_mode(tmp_path, prepared):
    note = tmp_path / "connections"
    (tmp_path / "data").symlink_to(prepared / "data")
    done = fca(tmp_path, note, ["train", "--base", "owner/name"], HF_HUB_OFFLINE="1")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert lines[-2].startswith("error: ") and "owner/name" in lines[-2] and lines[-1].startswith("  try: ")
    assert "offline" in done.stderr.lower() and not note.exists()


def test_a_named_hub_model_is_looked_for(server, tmp_path, prepared):
    """A check of the check: the connection that is asked for is noticed, and its failure is one error."""
    note = tmp_path / "connections"
    (tmp_path / "data").symlink_to(prepared / "data")
    done = server.run(tmp_path, "train", "--base", "owner/name", faults=(("no_network", {"note": str(note)}),), code=1)
    assert "Traceback" not in done.said and done.said.splitlines()[-2].startswith("error: "), done.said
    assert note.exists() and "huggingface.co" in note.read_text()
