"""What 8-bit storage does to training: the same run of the miniature on exact and on stored features.

Run with -m benchmark -s.
"""

import json

import pytest
import torch

from fcacli.data.dataset import given_frames
from fcacli.model.attach import attach, detach, save_adapter
from fcacli.model.bases import load_base, resolve_base
from fcacli.training.checkpoint import all_validations
from fcacli.training.loop import Session, Subject, fit
from fcacli.workflows.encode import plan as planning
from fcacli.workflows.encode.encode import choose_clips, encode
from fcacli.workflows.prepare import prepare
from fcacli.workflows.toy import write_toy
from fcacli.workflows.train_options import TrainOptions, resolve
from fcacli.workspace import Workspace, read_json

STEPS, CLIPS = 40, 48


def exact_samples(base, dataset, encoded, clip):
    """What the encoders give, nothing packed."""
    for index, row in enumerate(encoded.clips["train"]):
        sample = encoded.unpack(encoded.dataset("train")[index])
        text, _ = base.encode_text([row.text, ""])
        image = base.encode_image(given_frames(dataset, "train", row, clip))
        yield {**sample, "text": text[0], "image": image}


def trained(base, config, samples, encoded, run):
    """The losses of a run: of its last ten steps, and held out."""
    run.mkdir(parents=True)
    torch.manual_seed(0)
    adapter = attach(base, config.adapter, config.clip)
    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=samples,
        held_out=encoded.dataset("val"),
        null=encoded.null(),
        unpack=encoded.unpack,
    )
    fit(subject, config, run, Session())
    detach(base.transformer)
    losses = [json.loads(line).get("loss") for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    return sum(losses[-10:]) / 10, read_json(all_validations(run)[-1] / "validation.json")["held_out"]


@pytest.mark.benchmark
def test_training_on_stored_features_loses_nothing_that_can_be_seen(tmp_path, monkeypatch):
    write_toy(tmp_path / "raw", clips=CLIPS)
    dataset = prepare("ssv2", tmp_path / "raw", Workspace(tmp_path)).folder
    base = load_base(resolve_base("mini"))
    options = TrainOptions(steps=STEPS, batch_size=4, validate_clips=0, precision="fp32")
    config = resolve(options, base.spec, base.fingerprint, dataset.name, False)
    clips = choose_clips(dataset, config.clip)
    stored = encode(base, dataset, clips, config.clip)
    monkeypatch.setattr(planning, "BUDGET", 0)
    pictures = encode(base, dataset, clips, config.clip)
    count = len(clips["train"])
    runs = {
        "exact": list(exact_samples(base, dataset, stored, config.clip)),
        "in 8 bits": [stored.dataset("train")[index] for index in range(count)],
        "text in 8 bits, image features computed": [pictures.dataset("train")[index] for index in range(count)],
    }
    found = {}
    for name, samples in runs.items():
        encoded = pictures if "computed" in name else stored
        found[name] = trained(base, config, samples, encoded, tmp_path / "runs" / str(len(found)))
    print(f"\nmini, {STEPS} steps of 4 of {count} clips, the same draws; loss of the last ten steps, held-out loss")
    for name, (loss, held_out) in found.items():
        print(f"  {name}: {loss:.6f}, {held_out:.6f}")
    for loss, held_out in found.values():
        assert abs(loss / found["exact"][0] - 1) < 0.005 and abs(held_out / found["exact"][1] - 1) < 0.005
