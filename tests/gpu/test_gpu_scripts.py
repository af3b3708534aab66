"""The scripts of this folder, as far as they run without a GPU."""

import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
import pytest
import torch
from cases import CONTEXT, Case, memory_cases, predict_cases, speed_cases
from run import Run, Shared, measure_all
from tables import OF_PREDICTIONS, PHASES, as_text
from turns import Turns

from fcacli.model.bases import MINI, resolve_base

HERE = Path(__file__).parent
SMALL = {"precision": "fp32", "optimizer": "adamw8bit"}
FRUGAL = {"base_weights": "int8", "block_swap": 2, "offload_optimizer": True, "offload_activations": True}
FOUND = {"device": "none", "device_gib": 40, "date": "2026-01-02", "commit": "x", "torch": torch.__version__, "python": "3"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on the CPU, where the bundled base lies as if written."""
    monkeypatch.setitem(cases.SHAPES, "16x48x48", (16, 48, 48))
    work = tmp_path / "work"
    shutil.copytree(MINI, work / "mini")
    return Run(tmp_path, work, time.monotonic() + 600, 1, dict(FOUND), device="cpu")


def test_configurations_are_measured_in_all_their_phases_and_planned(run, tmp_path):
    kept = Case("mini", "16x48x48", 24, SMALL | FRUGAL | {"checkpointing": True})
    timed = Case("mini", "16x48x48", None, SMALL, timed=True)
    drawn = Case("mini", "16x48x48", 6, SMALL, offload="sequential")
    measure_all(run, {"memory": [kept], "predict": [drawn], "speed": [timed]})
    (trained,), (predicted,), (quick,) = (run.found[name] for name in ("memory", "predict", "speed"))
    assert tuple(trained["phases"]) == ("encode", "training and saving", "validation", "decode")
    assert tuple(predicted["phases"]) == OF_PREDICTIONS and set(predicted["planned"]) == {*OF_PREDICTIONS, "card"}
    assert all(phase["seconds"] > 0 for row in (trained, predicted) for phase in row["phases"].values())
    assert len(trained["losses"]) == 3 and len(quick["losses"]) == 6 and trained["seconds_per_clip"] > 0
    assert set(trained["planned"]) == {*PHASES, "card"} and trained["planned"]["training and saving"] > 0
    assert set(quick["seconds"]) == {"adapted", "alone", "floor"} and min(quick["seconds"].values()) > 0
    assert run.found["attention"]["small"]["chosen"]["same"] > 0
    assert {path.name for path in run.work.iterdir()} == {"mini", "card.lock", "gate.lock"}, "the adapter is gone"
    text = (tmp_path / "gpu-2026-01-02.md").read_text()
    assert f"({trained['planned']['decode']})" in text and f"({predicted['planned']['decode']})" in text
    assert f"| {quick['seconds_per_clip'] / quick['seconds']['floor']:.3f} | 1.000 |" in text
    assert "- mini 16x48x48, 24 GB: 0%" in text and "offload=sequential" in text


def test_cases_that_did_not_fit_are_in_the_tables():
    case = {"base": "mini", "shape": "16x48x48", "card": 8, "cap": 7, "options": SMALL, "out_of_memory": "all gone"}
    text = as_text(FOUND | {"memory": [case], "speed": [case], "predict": [case]})
    assert text.count("all gone") == 3 and "- mini 16x48x48, 8 GB: **does not fit**" in text


def test_cases_at_the_same_time_share_both_memories():
    shared, most, lock = Shared(50, 30), [0.0, 0.0], threading.Lock()

    def use(device: float) -> None:
        with shared.room_for(device, 12), lock:
            most[:] = (max(most[0], 50 - shared.free[0]), max(most[1], 30 - shared.free[1]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [24, 24, 80, 16, 12] * 3))
    assert 24 <= most[0] <= 50 and most[1] <= 24 and shared.free == (50, 30)


def test_who_times_has_the_card_alone_and_is_not_kept_waiting_by_newcomers(tmp_path):
    """Three threads beside each other, of which the last comes while the second waits."""
    said, beside, inside = [], Turns(tmp_path), threading.Event()
    beside.take(alone=False)

    def time_it() -> None:
        with Turns(tmp_path).taken(alone=True):
            said.append("timed")
            time.sleep(0.1)
            said.append("done")

    def come_later() -> None:
        inside.set()
        with Turns(tmp_path).taken():
            said.append("later")

    with ThreadPoolExecutor(2) as pool:
        pool.submit(time_it)
        time.sleep(0.2)
        pool.submit(come_later)
        inside.wait()
        time.sleep(0.1)
        said.append("free")
        beside.leave()
    assert said == ["free", "timed", "done", "later"]


def test_a_card_has_a_context_beside_what_the_allocator_may_have():
    assert Case("mini", "16x256x256", 24).cap * 2**30 + CONTEXT == pytest.approx(24e9)


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
