"""`predict`: what it finds, what it writes, what it refuses."""

import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from trained_run import CLIP, make_workspace, source_video

from fcacli.config import Offload
from fcacli.data.images import read_image
from fcacli.data.resize import resize
from fcacli.errors import FcaError, Misuse
from fcacli.events import silent
from fcacli.model.bases import parts
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.block_swap import BlockSwap, Waiting
from fcacli.prediction.pictures import Group, Row, contact_sheet
from fcacli.prediction.sampler import encode_given
from fcacli.prediction.video import read_pngs, write_mp4, write_pngs
from fcacli.workflows.predict import predict
from fcacli.workflows.trained import find_trained
from fcacli.workspace import Workspace, read_json


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("predict"), tiny_base_folder)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_pngs(tmp_path / "frames", source_video(0, frames=2))
    return tmp_path / "frames"


def test_writes_everything_and_what_made_it(workspace: Workspace, frames: Path) -> None:
    result = predict(workspace, frames, "pushing cup left")
    assert result.folder == workspace.predictions / "pushing-cup-left"
    assert result.step == 4
    names = {str(path.relative_to(result.folder)) for path in result.folder.rglob("*") if path.is_file()}
    pngs = {f"frames/{t:03d}.png" for t in range(16)}
    assert names == {"prediction.mp4", "prediction.gif", "contact_sheet.png", "prediction.json"} | pngs
    assert all(path.is_file() for path in result.files)
    video = read_pngs(result.folder / "frames")
    assert video.shape == (16, 32, 32, 3)
    assert (video[:2] == resize(source_video(0, frames=2), 32, 32)).all()
    made_by = json.loads((result.folder / "prediction.json").read_text())["made_by"]
    assert made_by["text"] == "pushing cup left"
    assert made_by["step"] == 4
    assert made_by["sampling"] == {"steps": 2, "guidance": 2.0, "sampler": "base", "seed": 0}
    assert len(made_by["adapter_sha256"]) == 64


def test_beside_the_prediction_of_a_whole_action_stands_what_followed_there(workspace: Workspace, tmp_path: Path) -> None:
    source = source_video(0, frames=31)
    write_pngs(tmp_path / "action", source)
    result = predict(workspace, tmp_path / "action", "a whole action")
    rows = [Row("the source", resize(source[::2], 32, 32), 2), Row("prediction", read_pngs(result.folder / "frames"), 2)]
    assert np.array_equal(read_image(result.folder / "contact_sheet.png"), contact_sheet([Group("a whole action", rows)]))


def test_same_request_rewrites_its_folder_another_gets_its_own(workspace: Workspace, frames: Path) -> None:
    first = predict(workspace, frames, "a cup")
    pixels = read_pngs(first.folder / "frames")
    again = predict(workspace, frames, "a cup")
    assert again.folder == first.folder
    assert (read_pngs(again.folder / "frames") == pixels).all()
    other = predict(workspace, frames, "a cup", seed=1)
    assert other.folder.name == "a-cup-2"
    assert (read_pngs(other.folder / "frames") != pixels).any()
    assert predict(workspace, frames, "a cup", seed=1).folder == other.folder


def test_another_sampler_makes_another_prediction_and_is_written_down(workspace: Workspace, frames: Path) -> None:
    own, fresh = predict(workspace, frames, "pushing cup"), predict(workspace, frames, "pushing cup", sampler="fresh-noise")
    assert own.folder != fresh.folder
    assert json.loads((fresh.folder / "prediction.json").read_text())["made_by"]["sampling"]["sampler"] == "fresh-noise"
    videos = [read_pngs(made.folder / "frames") for made in (own, fresh)]
    assert (videos[0] != videos[1]).any()


def test_several_predictions_use_consecutive_seeds(workspace: Workspace, frames: Path) -> None:
    both = predict(workspace, frames, "two cups", num=2, seed=7)
    assert both.seeds == [7, 8]
    alone = predict(workspace, frames, "two cups", seed=8)
    assert (read_pngs(both.folder / "seed-8" / "frames") == read_pngs(alone.folder / "frames")).all()


def test_first_frames_come_from_a_folder_or_a_video_of_any_size(workspace: Workspace, tmp_path: Path) -> None:
    video = np.repeat(source_video(1, frames=2).repeat(3, axis=1).repeat(3, axis=2), 1, axis=0)
    write_mp4(tmp_path / "short.mp4", video, 12)
    result = predict(workspace, tmp_path / "short.mp4", "from a video", steps=1)
    given = read_pngs(result.folder / "frames")[:2].astype(int)
    assert np.abs(given - resize(video, 32, 32)).mean() < 4


def test_a_named_checkpoint_is_used(workspace: Workspace, frames: Path) -> None:
    by_name = predict(workspace, frames, "by name", checkpoint="step-000002")
    assert by_name.step == 2
    assert predict(workspace, frames, "by name", checkpoint="2").folder == by_name.folder
    assert predict(workspace, frames, "by name").folder != by_name.folder


def test_the_models_own_first_frames_are_shown_on_request(workspace: Workspace, frames: Path) -> None:
    own = read_pngs(predict(workspace, frames, "own", keep_generated_init=True).folder / "frames")
    replaced = read_pngs(predict(workspace, frames, "own").folder / "frames")
    assert (own[:2] != replaced[:2]).any()
    assert (own[2:] == replaced[2:]).all()


def test_out_is_never_written_over_something_else(workspace: Workspace, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FcaError, match="holds something else"):
        predict(workspace, frames, "a", out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    result = predict(workspace, frames, "a", out=tmp_path / "new")
    assert result.folder == tmp_path / "new"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_refused(workspace: Workspace, frames: Path, text: str) -> None:
    with pytest.raises(Misuse, match="text is empty"):
        predict(workspace, frames, text)


def test_missing_things_are_named(workspace: Workspace, frames: Path, tmp_path: Path) -> None:
    with pytest.raises(FcaError, match="no run"):
        predict(Workspace(tmp_path), frames, "a")
    with pytest.raises(FcaError, match="no run 'second'"):
        predict(workspace, frames, "a", run="second")
    with pytest.raises(FcaError, match="no checkpoint '9'"):
        predict(workspace, frames, "a", checkpoint="9")
    with pytest.raises(FcaError, match="nowhere"):
        predict(workspace, tmp_path / "nowhere", "a")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(FcaError, match=r"0\.png"):
        predict(workspace, tmp_path / "bad", "a")


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_on_the_cpu_is_refused(workspace: Workspace, frames: Path, offload: Offload) -> None:
    with pytest.raises(Misuse, match="this is the CPU"):
        predict(workspace, frames, "a", offload=offload, device="cpu")


def test_unknown_devices_and_bad_numbers_are_refused(workspace: Workspace, frames: Path) -> None:
    with pytest.raises(Misuse, match="no kind of device"):
        predict(workspace, frames, "a", device="abacus")
    with pytest.raises(Misuse, match="--num"):
        predict(workspace, frames, "a", num=0)
    with pytest.raises(Misuse, match="steps"):
        predict(workspace, frames, "a", steps=0)


class Loaded:
    """Which parts of a base were there when each part was loaded; references to them are not kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.there: list[tuple[str, set[str]]] = []
        self._alive: dict[str, weakref.ref] = {}
        for name in ("text_encoder", "vae", "image_encoder", "transformer"):
            monkeypatch.setitem(parts.LOADERS, name, partial(self._load, parts.LOADERS[name]))

    def _load(self, load: Callable, base: CogVideoX, name: str) -> object:
        self.there.append((name, {other for other, part in self._alive.items() if part() is not None}))
        part = load(base, name)
        self._alive[name] = weakref.ref(part)
        return part


@pytest.mark.parametrize("how", ["none", "model", "sequential"])
def test_one_part_of_the_base_is_there_at_a_time(
    workspace: Workspace, frames: Path, monkeypatch: pytest.MonkeyPatch, how: Offload
) -> None:
    """With several predictions, too; the CPU stands in the place of the device."""
    loaded = Loaded(monkeypatch)
    monkeypatch.setattr("fcacli.workflows.predict.settle_offload", lambda asked, *_: asked)
    predict(workspace, frames, f"alone {how}", num=2, offload=how)
    order = ["text_encoder", "vae", "image_encoder", "transformer", "vae"]
    assert loaded.there == [(name, set()) for name in order]


@pytest.mark.parametrize("how", ["model", "sequential"])
def test_offloading_changes_nothing_but_where_weights_wait(
    workspace: Workspace, frames: Path, monkeypatch: pytest.MonkeyPatch, how: Offload
) -> None:
    """The text encoder's blocks wait as well, as where it has no room; the CPU stands in the place of the device."""
    expected = predict(workspace, frames, "offloaded", num=2)
    fetched: list[int] = []
    fetch = BlockSwap._fetch
    monkeypatch.setattr(BlockSwap, "_fetch", lambda swap, place: fetched.append(place) or fetch(swap, place))  # type: ignore[func-returns-value]
    monkeypatch.setattr(parts, "has_room", lambda device, size: False)
    monkeypatch.setattr("fcacli.workflows.predict.settle_offload", lambda asked, *_: asked)
    found = predict(workspace, frames, "offloaded", num=2, offload=how, out=workspace.root / how)
    assert fetched
    for seed in expected.seeds:
        one, other = (read_pngs(made.folder / f"seed-{seed}" / "frames") for made in (expected, found))
        assert (one == other).all()
    assert read_json(found.folder / "prediction.json")["made_by"] == read_json(expected.folder / "prediction.json")["made_by"]


def test_what_is_used_once_per_clip_visits_the_device_a_module_at_a_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[object] = []
    visiting = Waiting.visiting

    @contextmanager
    def seen(waiting: Waiting, device: torch.device) -> Iterator[None]:
        assert not there, "one at a time"
        there.append(waiting)
        with visiting(waiting, device):
            assert all(slot.owner[slot.name].data_ptr() != slot.tensor.data_ptr() for slot in waiting.slots), "copied"
            yield
        there.remove(waiting)
        visits.append(waiting)

    visits: list[Waiting] = []
    monkeypatch.setattr(Waiting, "visiting", seen)
    trained = find_trained(workspace, None, None, "cpu", silent)
    adapter = trained.load("model")
    given, null = encode_given(trained.base, resize(source_video(0, frames=2), 32, 32), "a")
    conditioning = adapter.condition(trained.base, null.cat(given))
    parts_of_it = len(adapter.text_modules) + len(adapter.layers)
    assert len(visits) == len(set(map(id, visits))) == parts_of_it > 2
    assert adapter.waiting_bytes == sum(waiting.buffer.nbytes for waiting in visits)
    adapter.denoise(
        trained.base,
        torch.zeros(2, *trained.base.latent_shape(CLIP)),
        torch.tensor([5, 5]),
        given.text.repeat(2, 1, 1),
        conditioning,
    )
    assert len(visits) == parts_of_it, "a denoising step brings none"
