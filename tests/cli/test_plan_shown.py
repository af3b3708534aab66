"""What `fca plan` prints: no line contradicts another."""

import re

from fcacli.cli.plan import prediction_shown, shown
from fcacli.workflows.plan import plan
from fcacli.workflows.plan_prediction import plan_prediction
from fcacli.workflows.train_options import TrainOptions
from fcacli.workspace import Workspace

MODEL = TrainOptions(base="cogvideox-2b")


def gigabytes(text: str) -> float:
    value, unit = re.fullmatch(r"([\d.]+) ([GM]B)", text).groups()
    return float(value) / (1 if unit == "GB" else 1000)


def test_no_phase_takes_more_than_the_card_that_is_named(tmp_path):
    planned = plan(Workspace(tmp_path), MODEL, gpu_memory=12 * 10**9)
    lines = list(shown(planned))
    assert lines[0].startswith("fca width 1920, 16x256x256, batch 1x4, bf16") and lines[0].endswith("10,000 steps")
    table = {line[:24].strip(): line[24:] for line in lines[2 : 2 + len(planned.memory.phases)]}
    sizes = {name: gigabytes(row[:10].strip()) for name, row in table.items()}
    assert max(sizes.values()) * 1.05 + 0.75 < 12.05
    assert "in blocks from main memory; 16 at once 10.0 GB where there is room" in table["encoding captions"]
    (host,) = (line for line in lines if "of main memory have to be free" in line)
    assert planned.memory.host_peak.name in host


def test_of_several_processes_it_says_that_it_is_of_each(tmp_path):
    planned = plan(Workspace(tmp_path), TrainOptions(base="mini"), gpus=0, processes=2)
    lines = list(shown(planned))
    assert lines[0].endswith(", for each of 2 processes") and planned.command == "fca train --base mini --gpus 0 --processes 2"
    machines = plan(Workspace(tmp_path), TrainOptions(base="mini", accumulate=8), gpus=2, nodes=2)
    assert machines.processes == 4
    assert machines.command == "fca train --base mini --accumulate 8 --gpus 2 --nodes 2 --rendezvous HOST:PORT"


def test_a_prediction_needs_no_more_than_its_card(tmp_path):
    planned = plan_prediction(Workspace(tmp_path), MODEL)
    lines = list(prediction_shown(planned))
    captions = next(line for line in lines if line.startswith("captions"))
    card = next(line for line in lines if line.startswith("card"))
    taken, allowed = ([gigabytes(text.strip()) for text in re.findall(r"[\d.]+ [GM]B", line)[:3]] for line in (captions, card))
    assert all(part < whole for part, whole in zip(taken, allowed, strict=True))
    assert "in blocks from main memory; 9.6 GB where there is room" in captions
