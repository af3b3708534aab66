"""`fca prepare --base`: what `fca train` would encode first, done ahead of it."""

from pathlib import Path

from fcacli.events import Message, Report, silent
from fcacli.model.arithmetic import computes_bf16
from fcacli.workflows.devices import choose_gpus
from fcacli.workflows.encode.encode import Encoded, choose_clips, encode, encoding
from fcacli.workflows.train_options import TrainOptions, as_stored, resolve


def encode_ahead(dataset: Path, base_name: str, *, report: Report = silent) -> Encoded:
    """Encode a prepared dataset for a base, at the clip size and on the device that training would take.

    Raises:
        Misuse: no such base.
        FcaError: the base cannot be loaded, or no train clip is long enough.
    """
    from fcacli.model.bases import load_base, resolve_base

    device = choose_gpus(None)
    base = load_base(resolve_base(base_name), device)
    report(Message(f"base {base.spec.name} ({base.spec.reason}), on {device}"))
    asked = as_stored(TrainOptions(), dataset, base, report)
    clip = resolve(asked, base.spec, base.fingerprint, dataset.name, computes_bf16(device)).clip
    with encoding(dataset, report):
        return encode(base, dataset, choose_clips(dataset, clip, report), clip, report)
