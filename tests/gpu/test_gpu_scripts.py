"""The scripts of this folder, as far as they run without a GPU."""

import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from cases import CASES, CONTEXT, Case
from run import Job, Jobs
from tables import OF_ENCODING, OF_PREDICTIONS, PHASES, as_text
from turns import Turns

from fcacli.model.bases import MINI, resolve_base

HERE = Path(__file__).parent
SMALL = {"precision": "fp32", "optimizer": "adamw8bit"}
FRUGAL = {"base_weights": "int8", "block_swap": 2, "offload_optimizer": True, "offload_activations": True}
FOUND = {"device": "none", "device_gib": 40, "date": "2026-01-02", "commit": "x", "torch": torch.__version__, "python": "3"}
ALL = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from cases import SHAPES, Case
from run import measure_all
SHAPES["16x48x48"] = (16, 48, 48)
small, frugal = {SMALL}, {FRUGAL}
cases = {{
    "encode": [Case("encode", "mini", "16x48x48", 24, small)],
    "memory": [Case("train", "mini", "16x48x48", 24, small | frugal | {{"checkpointing": True}})],
    "predict": [Case("predict", "mini", "16x48x48", 6, small, offload="sequential")],
    "speed": [Case("time", "mini", "16x48x48", None, small)],
}}
out = Path.cwd()
measure_all({FOUND}, cases, {{"mini": lambda work: {{"lines": []}}}}, out, out / "work", time.monotonic() + 600, "cpu")
"""
"""The bundled base on the CPU, as if it had been written."""


def test_configurations_are_measured_in_all_their_phases_and_planned(tmp_path):
    work = tmp_path / "work"
    shutil.copytree(MINI, work / "mini")
    subprocess.run([sys.executable, "-c", ALL], cwd=tmp_path, check=True, timeout=300)
    found = json.loads((tmp_path / "gpu-2026-01-02.json").read_text())
    (encoded,), (trained,), (predicted,), (quick,) = (found[name] for name in ("encode", "memory", "predict", "speed"))
    assert not [row for row in (encoded, trained, predicted, quick) if "failed" in row]
    assert tuple(encoded["phases"]) == OF_ENCODING and tuple(trained["phases"]) == PHASES
    assert tuple(predicted["phases"]) == OF_PREDICTIONS and set(predicted["planned"]) == {*OF_PREDICTIONS, "card"}
    assert all(phase["seconds"] > 0 for row in (encoded, trained, predicted) for phase in row["phases"].values())
    assert len(trained["losses"]) == 1 and len(quick["losses"]) == 5 and trained["seconds_per_clip"] > 0
    assert set(trained["planned"]) == {*PHASES, "card"} and trained["planned"]["training and saving"] > 0
    assert set(quick["seconds"]) == {"adapted", "alone", "floor"} and min(quick["seconds"].values()) > 0
    assert [path.name for path in work.iterdir() if path.is_dir()] == ["mini"], "the adapter is gone"
    text = (tmp_path / "gpu-2026-01-02.md").read_text()
    assert f"({trained['planned']['decode']})" in text and f"({predicted['planned']['decode']})" in text
    assert f"| {quick['seconds_per_clip'] / quick['seconds']['floor']:.3f} | 1.000 |" in text
    assert "- mini 16x48x48, 24 GB: 0%" in text and "offload=sequential" in text


def test_cases_that_did_not_fit_are_in_the_tables():
    case = {"base": "mini", "shape": "16x48x48", "card": 8, "cap": 7, "options": SMALL, "out_of_memory": "all gone"}
    text = as_text(FOUND | {"memory": [case], "speed": [case], "predict": [case]})
    assert text.count("all gone") == 3 and "- mini 16x48x48, 8 GB: **does not fit**" in text


def test_what_failed_as_a_whole_is_said():
    failed = {"failed": "all gone"}
    text = as_text(FOUND | {"failed": ["bases x: all gone"], "tests": failed, "attention": failed, "mini": failed})
    assert text.count("all gone") == 4 and "failed: bases x: all gone" in text


def test_a_base_that_cannot_be_written_keeps_nobody_waiting(tmp_path):
    (tmp_path / "work" / "shared").mkdir(parents=True)
    (tmp_path / "work" / "shared" / "written").touch()
    words = ALL.replace('"mini", "16x48x48"', '"no-such-base", "16x48x48"')
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", words], cwd=tmp_path, check=True, timeout=300)
    found = json.loads((tmp_path / "gpu-2026-01-02.json").read_text())
    assert time.monotonic() - started < 100 and found["failed"][0].startswith("bases ")
    rows = [row for part in ("encode", "memory", "predict", "speed") for row in found[part]]
    assert [row["failed"] for row in rows] == ["the base could not be written"] * 4


def test_jobs_share_both_memories_and_one_that_dies_or_has_no_time_is_told_of(tmp_path):
    """Of a device of 50 GiB: whatever fits begins, in order."""
    jobs, ended, most = Jobs(tmp_path, time.monotonic() + 4, 50), [], [0.0]

    def job(name, device, seconds, **more):
        return Job(name, lambda: time.sleep(seconds), device=device, main=12, kind="measure", **more)

    jobs.waiting += [job("a", 24, 0.3), job("b", 24, 0.3), job("c", 24, 0.3), job("d", 2, 0.1)]
    jobs.waiting += [Job("e", lambda: sys.exit(3)), job("f", 2, 60), job("g", 2, 0, ready=lambda: False)]

    def done(job):
        ended.append((job.name, job.found))
        most[0] = max(most[0], sum(other.device for other in jobs.running) + job.device)

    jobs.run(done)
    found = dict(ended)
    assert found.keys() == set("abcdefg") and 26 <= most[0] <= 50
    assert [found[name] for name in "abcd"] == [None] * 4 and [name for name, _ in ended].index("d") < 4
    assert "SystemExit" in found["e"]["failed"] and found["f"] == found["g"] == {"failed": "no time left"}


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
    assert Case("train", "mini", "16x256x256", 24).cap * 2**30 + CONTEXT == pytest.approx(24e9)


def test_every_case_is_a_configuration_that_fca_train_takes():
    from fcacli.model.bases.published import published
    from fcacli.workflows.train_options import resolve

    for case in [case for make in CASES.values() for case in make()]:
        options = case.all_options
        config, transformer = resolve(options, resolve_base(case.base), "x", "x", bf16=True), published(case.base)
        if config.adapter.kind == "fca":
            heads, rest = divmod(config.adapter.width, transformer["attention_head_dim"])
            assert not rest and heads <= transformer["num_attention_heads"]
        assert config.block_swap <= transformer["num_layers"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_run_says_so(tmp_path):
    done = subprocess.run([sys.executable, HERE / "run.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "no CUDA device" in done.stderr and "Traceback" not in done.stderr
