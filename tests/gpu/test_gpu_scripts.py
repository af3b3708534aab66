"""The scripts of this folder, as far as they run without a GPU."""

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from run import OF_PREDICTIONS, Card, Case, as_text, memory_cases, predict_cases, speed_cases

from fcacli.model.bases import MINI, resolve_base

HERE = Path(__file__).parent
SMALL = {"steps": 3, "batch_size": 1, "accumulate": 1, "precision": "fp32", "optimizer": "adamw8bit"}
FRUGAL = SMALL | {"base_weights": "int8", "block_swap": 2, "offload_optimizer": True, "offload_activations": True}


def measured(base: Path, options: dict, *more: str) -> dict:
    words = [sys.executable, HERE / "measure.py", base, json.dumps(options), "--steps", "2", "--device", "cpu", *more]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_configuration_is_measured_in_all_its_phases_and_planned(tmp_path):
    base = shutil.copytree(MINI, tmp_path / "base")  # without a CUDA device the bundled one is planned for the CPU
    options = FRUGAL | {"checkpointing": True}
    row = measured(base, options) | measured(base, options, "--plan")
    assert set(row["phases"]) == {"encode", "training and saving", "validation", "decode"}
    assert all(phase["seconds"] > 0 for phase in row["phases"].values())
    assert len(row["losses"]) == 2 and row["seconds_per_step"] > 0 and row["denoising"]["base"] > 0 and row["floor"] > 0
    assert set(row["planned"]) == {*row["phases"], "card"} and row["planned"]["training and saving"] > 0
    case = {"base": "mini", "shape": "16x48x48", "cap": None, "options": options, **row}
    found = {"device": "none", "date": "today", "commit": "x", "torch": torch.__version__, "python": "3"}
    text = as_text(found | {"memory": [case], "speed": [case]})
    assert text.count(f"| {row['seconds_per_step']} |") == 2 and f"({row['planned']['decode']})" in text
    assert f"| {row['seconds_per_step'] / row['floor']:.3f} | 1.000 |" in text


def test_a_prediction_is_measured_in_all_its_phases_and_planned(tmp_path):
    offload, base = "sequential", shutil.copytree(MINI, tmp_path / "base")
    row = measured(base, SMALL, "--predict", offload) | measured(base, SMALL, "--predict", offload, "--plan")
    assert tuple(row["phases"]) == OF_PREDICTIONS and set(row["planned"]) == {*OF_PREDICTIONS, "card"}
    assert all(phase["seconds"] > 0 for phase in row["phases"].values()) and row["planned"]["denoising"] > 0
    assert list(tmp_path.iterdir()) == [base], "the adapter is gone"
    case = {"base": "mini", "shape": "16x48x48", "cap": 6, "options": {}, "offload": offload, **row}
    found = {"device": "none", "date": "today", "commit": "x", "torch": torch.__version__, "python": "3"}
    text = as_text(found | {"predict": [case]})
    assert f"offload={offload}" in text and f"({row['planned']['decode']})" in text


def test_cases_that_did_not_fit_are_in_the_tables():
    case = {"base": "mini", "shape": "16x48x48", "cap": 8, "options": SMALL, "out_of_memory": "all gone"}
    found = {"device": "none", "date": "today", "commit": "x", "torch": torch.__version__, "python": "3"}
    assert as_text(found | {"memory": [case], "speed": [case], "predict": [case]}).count("all gone") == 3


def test_the_kernels_of_attention_are_timed():
    done = subprocess.run(
        [sys.executable, HERE / "attention.py", "--device", "cpu"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["small"]["chosen"]["both"] > 0


def test_cases_at_the_same_time_share_the_card():
    card, most, lock = Card(50), [0.0], threading.Lock()

    def use(gib: float) -> None:
        with card.room_for(gib), lock:
            most[0] = max(most[0], 50 - card.free)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [24, 24, 80, 16, 12] * 3))
    assert 24 <= most[0] <= 50 and card.free == 50


def test_every_case_is_a_configuration_that_fca_train_takes():
    from fcacli.model.bases.published import published
    from fcacli.workflows.train_options import TrainOptions, resolve

    for case in [*memory_cases(), *predict_cases(), *speed_cases()]:
        assert isinstance(case, Case)
        options = TrainOptions(**json.loads(case.arguments[0]))
        config, transformer = resolve(options, resolve_base(case.base), "x", "x", bf16=True), published(case.base)
        if config.adapter.kind == "fca":
            heads, rest = divmod(config.adapter.width, transformer["attention_head_dim"])
            assert not rest and heads <= transformer["num_attention_heads"]
        assert config.block_swap <= transformer["num_layers"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_run_says_so(tmp_path):
    done = subprocess.run([sys.executable, HERE / "run.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "no CUDA device" in done.stderr and "Traceback" not in done.stderr
