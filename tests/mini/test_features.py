"""The bundled 3-D network: its features tell what is done apart, so that distances on them mean something."""

import numpy as np
import torch
from safetensors.torch import load_file

from fcacli.evaluation.frechet import frechet_distance
from fcacli.evaluation.kernel import kernel_distance
from fcacli.mini.build import WEIGHTS
from fcacli.mini.stage import to_video_tensor
from fcacli.mini.train_features import FEATURES, FILE, PARTS, Features, features_of
from fcacli.mini.world import sample_clip

COUNT = 48


def clips(first: int) -> list:
    return [sample_clip(77, first + i, "adapt") for i in range(COUNT)]


def test_stopped_clips_are_farther_from_true_ones_than_other_true_ones_are() -> None:
    one, other = (np.stack([clip.video() for clip in clips(first)]) for first in (0, COUNT))
    still = other.copy()
    still[:, 2:] = other[:, 1:2]
    near, far = (features_of(videos) for videos in (other, still))
    truth = features_of(one)
    assert truth.shape == (COUNT, FEATURES)
    for distance in (frechet_distance, kernel_distance):
        assert distance(far, truth) > 1.5 * distance(near, truth)


def test_it_reads_verb_and_colour_off_clips_it_never_saw() -> None:
    network = Features().eval()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS / "features" / FILE).items()})
    seen = clips(500)
    with torch.no_grad():
        features = network(to_video_tensor(np.stack([clip.video() for clip in seen])))
        for part in ("verb", "colour"):
            truth = torch.tensor([PARTS[part].index(getattr(clip.action, part)) for clip in seen])
            assert (network.parts[part](features).argmax(1) == truth).float().mean() > 0.85


def test_a_clip_of_17_frames_has_features_too() -> None:
    assert features_of(np.stack([clips(0)[0].video(48, 17)])).shape == (1, FEATURES)
