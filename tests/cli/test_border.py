"""How failures look from the shell: one block, the right exit status, a traceback only when asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fcacli.cli import border
from fcacli.errors import FcaError, Misuse
from fcacli.libraries import quiet_libraries


def run(error: BaseException):
    """The outcome of a command whose body raises `error`."""
    app = typer.Typer()

    @app.command()
    @border.command
    def body() -> None:
        raise error

    return CliRunner().invoke(app, [])


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """quiet_libraries sets variables for the whole process; tests give them back."""
    monkeypatch.delenv("FCA_DEBUG", raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_known_error_is_one_block_on_stderr():
    outcome = run(FcaError("no run in runs/", "fca train"))
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    assert outcome.stderr == "error: no run in runs/\n  try: fca train\n"


def test_an_error_without_a_hint_gets_the_next_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fca", "train", "--steps", "9"])
    assert run(FcaError("the disk is full")).stderr.endswith("\n  try: mend that, then again: fca train --steps 9\n")
    assert run(Misuse("--steps is odd")).stderr.endswith("\n  try: fca train --help\n")


def test_misuse_exits_with_2():
    assert run(Misuse("--steps must be at least 1, got 0")).exit_code == 2


def test_ctrl_c_is_one_line_and_130():
    outcome = run(KeyboardInterrupt())
    assert outcome.exit_code == 130
    assert outcome.stderr == "interrupted; run the same command to continue\n"


def test_a_saved_run_that_was_stopped_is_no_error():
    outcome = run(FcaError("stopped by SIGTERM at step 5 of 10, saved", "fca train", code=143))
    assert outcome.exit_code == 143
    assert outcome.stderr == "stopped by SIGTERM at step 5 of 10, saved\n  try: fca train\n"


def test_the_unexpected_is_named_in_one_line_with_a_way_to_the_traceback():
    outcome = run(ZeroDivisionError("division by zero\nsecond line"))
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("error: unexpected ZeroDivisionError: division by zero\n  try: FCA_DEBUG=1 ")
    assert "Traceback" not in outcome.stderr


def test_a_traceback_is_shown_when_asked_for(monkeypatch):
    monkeypatch.setenv("FCA_DEBUG", "1")
    for error in (ZeroDivisionError("x"), FcaError("x")):
        assert "Traceback" in run(error).stderr


def test_out_of_gpu_memory_says_what_to_make_smaller():
    class OutOfMemoryError(RuntimeError):
        pass

    outcome = run(OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert "out of GPU memory" in outcome.stderr
    assert "--batch-size" in outcome.stderr


def test_an_exit_status_of_the_body_is_kept():
    assert run(typer.Exit(3)).exit_code == 3


def test_remote_code_is_never_run_and_libraries_are_quiet(monkeypatch):
    for name in ("DIFFUSERS_DISABLE_REMOTE_CODE", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.delenv(name, raising=False)
    quiet_libraries()
    assert os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] == "1"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"


def test_kernels_from_the_hub_are_not_fetched_where_the_package_for_it_is_installed(tmp_path):
    """bitsandbytes asks for one when it is imported on some CPUs."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*given, **named): raise SystemExit('fetched')\n")
    script = "from fcacli.libraries import quiet_libraries; quiet_libraries(); import bitsandbytes, kernels"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert "import of kernels halted" in done.stderr and "fetched" not in done.stderr, done.stderr


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    quiet_libraries()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"


def test_a_closed_pipe_is_no_error():
    shell = f"set -o pipefail; {sys.executable} -m fcacli completions bash | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr
