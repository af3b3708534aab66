"""The scripts of this folder, as far as they run without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run import Case, as_text, memory_cases, speed_cases

from fcacli.model.bases import MINI

HERE = Path(__file__).parent
SMALL = {"steps": 3, "batch_size": 1, "accumulate": 1, "precision": "fp32", "optimizer": "adamw8bit"}


def test_a_configuration_is_measured_in_all_its_phases():
    words = [sys.executable, HERE / "measure.py", MINI, json.dumps(SMALL), "--steps", "2", "--device", "cpu"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    assert set(row["phases"]) == {"encode", "training and saving", "validation", "decode"}
    assert all(phase["seconds"] > 0 for phase in row["phases"].values())
    assert len(row["losses"]) == 2 and row["seconds_per_step"] > 0 and row["denoising"]["base"] > 0
    case = {"base": "mini", "shape": "16x48x48", "cap": None, "options": SMALL, **row}
    found = {"device": "none", "date": "today", "commit": "x", "torch": torch.__version__, "python": "3", "memory": [case]}
    assert f"| {row['seconds_per_step']} |" in as_text(found)


def test_every_case_is_a_configuration_that_fca_train_takes():
    from fcacli.model.bases import resolve_base
    from fcacli.workflows.train_options import TrainOptions, resolve

    for case in [*memory_cases(), *speed_cases()]:
        assert isinstance(case, Case)
        options = TrainOptions(**json.loads(case.arguments[0]))
        resolve(options, resolve_base(case.base), "x", "x", bf16=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_run_says_so(tmp_path):
    done = subprocess.run([sys.executable, HERE / "run.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "no CUDA device" in done.stderr and "Traceback" not in done.stderr
