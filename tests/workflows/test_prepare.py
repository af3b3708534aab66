import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_path import fixture
from raw_videos import cut, moving_square, write_ssv2, write_video

from fcacli.data.decode import decode
from fcacli.data.manifest import read_split
from fcacli.data.sampling import Form
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Progress
from fcacli.workflows.lock import locked
from fcacli.workflows.prepare import PrepareOptions, check, prepare
from fcacli.workspace import Workspace

LABELS = {
    "train": [("1", "pushing cup left"), ("2", "lifting box"), ("3", "lifting cup")],
    "validation": [("7", "dropping box")],
}
CLIPS = Path("20bn-something-something-v2")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_ssv2(tmp_path_factory.mktemp("raw"), LABELS)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def run(raw, workspace, reader="ssv2", **options):
    """The result, the messages and the progress."""
    events = []
    result = prepare(reader, raw, workspace, report=events.append, **{"workers": 1, **options})
    texts = [event.text for event in events if isinstance(event, Message)]
    return result, texts, [event for event in events if isinstance(event, Progress)]


def test_clips_captions_and_times(raw, workspace):
    result, texts, progress = run(raw, workspace)
    assert result.folder == workspace.root / "data" / "ssv2" == workspace.dataset()
    assert result.counts == {"train": 3, "val": 1, "test": 0} and (result.made, result.reused, result.skipped) == (4, 0, [])
    clips = [*read_split(result.folder, "train"), *read_split(result.folder, "val")]
    assert [(clip.id, clip.text) for clip in clips] == [*LABELS["train"], *LABELS["validation"]]
    for clip in clips:
        assert (clip.frames, clip.width, clip.height, clip.source) == (18, 64, 48, f"{CLIPS}/{clip.id}.webm")
        assert clip.frame_times == pytest.approx([index / 12 for index in range(18)], abs=1e-3)
    assert decode(result.folder / "val" / "videos" / "7.mp4").frames.shape == (18, 48, 64, 3)
    assert texts == [f"prepared {result.folder}: 3 train, 1 val"]
    assert (progress[0].done, progress[-1].done, progress[-1].total) == (0, 4, 4)
    assert json.loads((result.folder / "skipped.json").read_text()) == []
    assert not list(result.folder.rglob("*.tmp*"))


def tree(folder, but=("journal.jsonl", "dataset.json", ".lock")):
    """Every file's bytes, but those that hold the order of work, the time of day and the process."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in but
    }


def test_output_does_not_depend_on_the_number_of_workers(raw, tmp_path):
    one, two = (run(raw, Workspace(tmp_path / str(n)), workers=n)[0].folder for n in (1, 2))
    assert tree(one) == tree(two) and len(tree(one)) == 9


def test_again_does_nothing_and_a_change_does_only_what_changed(raw, workspace, tmp_path):
    copy = tmp_path / "copy"
    write_ssv2(copy, LABELS)
    folder = run(copy, workspace)[0].folder
    before, written = tree(folder), {path: path.stat().st_mtime_ns for path in folder.glob("*/videos/*")}
    result, _, progress = run(copy, workspace)
    assert (result.made, result.reused) == (0, 4) and progress[0].done == 4
    assert tree(folder) == before and written == {path: path.stat().st_mtime_ns for path in folder.glob("*/videos/*")}

    write_video(copy / CLIPS / "2.webm", moving_square(20, seed=5))
    (folder / "val" / "videos" / "7.mp4").unlink()
    result = run(copy, workspace)[0]
    assert (result.made, result.reused) == (2, 2)
    assert [clip.frames for clip in read_split(folder, "train")] == [18, 20, 18]


def test_a_changed_caption_is_taken_without_converting(workspace, tmp_path):
    copy = write_ssv2(tmp_path / "copy", LABELS)
    run(copy, workspace)
    path = copy / "labels" / "train.json"
    path.write_text(path.read_text().replace("lifting cup", "lifting mug"))
    result = run(copy, workspace)[0]
    assert result.made == 0 and read_split(result.folder, "train")[2].text == "lifting mug"


def test_a_torn_journal_costs_only_its_last_clip(raw, workspace):
    folder = run(raw, workspace)[0].folder
    journal = folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    assert run(raw, workspace)[0].made == 1
    assert run(raw, workspace)[0].made == 0


def test_a_corrupt_video_is_listed_and_the_rest_goes_on(workspace, tmp_path):
    copy = write_ssv2(tmp_path / "copy", LABELS)
    (copy / CLIPS / "1.webm").write_bytes(b"not a video")
    cut(write_video(copy / CLIPS / "2.webm", moving_square(40)))
    for workers in (2, 1):  # the second time from the journal
        result, texts, _ = run(copy, workspace, workers=workers)
        assert result.counts == {"train": 1, "val": 1, "test": 0}
        skipped = json.loads((result.folder / "skipped.json").read_text())
        assert [(row["id"], row["source"]) for row in skipped] == [("1", f"{CLIPS}/1.webm"), ("2", f"{CLIPS}/2.webm")]
        assert "Invalid data" in skipped[0]["reason"] and skipped[1]["reason"]
        assert "left out, see" in texts[-2] and "and 1 more" in texts[-2]
    assert [path.name for path in (result.folder / "train" / "videos").iterdir()] == ["3.mp4"]


def test_no_usable_clip_is_an_error_naming_one(workspace, tmp_path):
    copy = write_ssv2(tmp_path / "copy", {"train": [("1", "a")]})
    (copy / CLIPS / "1.webm").write_bytes(b"x")
    with pytest.raises(FcaError, match=r"none of the 1 clips can be used; .*1\.webm: Invalid data"):
        run(copy, workspace)
    with pytest.raises(FcaError, match="no prepared data"):
        workspace.dataset()


def test_clips_with_fewer_frames_than_needed_are_listed(workspace, tmp_path):
    copy = write_ssv2(tmp_path / "copy", LABELS)
    write_video(copy / CLIPS / "1.webm", moving_square(12))
    result = run(copy, workspace)[0]
    assert [(clip.id, clip.reason) for clip in result.skipped] == [("1", "fewer frames than needed: 12 of 16")]
    assert run(copy, workspace, min_frames=12)[0].counts["train"] == 3
    result = run(copy, workspace)[0]
    assert result.made == 0 and [clip.id for clip in result.skipped] == ["1"]


def test_without_val_some_of_train_is_held_out(workspace, tmp_path):
    copy = write_ssv2(tmp_path / "copy", {"train": [(str(n), f"caption {n}") for n in range(5)]})
    result, texts, _ = run(copy, workspace)
    assert result.counts == {"train": 4, "val": 1, "test": 0}
    assert "there are no val clips: 1 of 5 train clips are held out as val" in texts
    for split in ("train", "val"):
        for clip in read_split(result.folder, split):
            assert (result.folder / split / clip.file_name).is_file()
    again = run(copy, workspace)[0]
    assert again.made == 0 and again.counts == result.counts and len(list(result.folder.glob("*/videos/*"))) == 5


def test_the_form_does_not_decide_what_is_held_out(tmp_path):
    raw = write_ssv2(tmp_path / "raw", {"train": [(str(n), f"caption {n}") for n in range(12)]})
    ids = []
    for number, form in enumerate((Form(), Form(frames=16, width=32, height=32), Form(frames=4))):
        result = run(raw, Workspace(tmp_path), name=f"form{number}", form=form)[0]
        ids.append([clip.id for clip in read_split(result.folder, "val")])
    assert ids[0] == ids[1] == ids[2] and len(ids[0]) == 1


def test_temporary_files_of_a_killed_run_are_removed(raw, workspace):
    folder = run(raw, workspace, limit=1)[0].folder
    left = [
        folder / place for place in (".dataset.json.1.tmp.json", "train/.metadata.jsonl.1.tmp", "val/videos/.7.mp4.1.tmp.mp4")
    ]
    for path in left:
        path.touch()
    run(raw, workspace, limit=1)
    assert not any(path.exists() for path in left)


def test_one_process_at_a_time_prepares_a_dataset(raw, workspace):
    with locked(workspace.new_dataset("ssv2")), pytest.raises(FcaError, match=f"prepared or encoded by process {os.getpid()}"):
        run(raw, workspace)
    assert run(raw, workspace)[0].made == 4


def test_an_unfinished_dataset_is_not_used_and_its_command_is_named(raw, workspace, monkeypatch):
    run(raw, workspace, limit=1)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fcacli.workflows.preparation.convert_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(raw, workspace, replace=True)
    for name in (None, "ssv2"):
        with pytest.raises(FcaError, match=r"no prepared data.*ssv2 is being prepared or was interrupted") as error:
            workspace.dataset(name)
        assert error.value.hint == f"fca prepare ssv2 {raw} --replace"
    assert run(raw, workspace)[0].folder == workspace.dataset() and not (workspace.dataset() / "unfinished.json").exists()


def test_limit_and_splits_choose_and_names_stay(raw, workspace):
    assert run(raw, workspace, limit=1)[0].counts == {"train": 1, "val": 1, "test": 0}
    result = run(raw, workspace, splits=["train"], limit=2, replace=True)[0]
    assert result.counts == {"train": 1, "val": 1, "test": 0} and result.reused == 1
    assert run(raw, workspace, replace=True)[0].counts == {"train": 3, "val": 1, "test": 0}
    assert [clip.id for clip in read_split(result.folder, "train")] == ["1", "2", "3"]


SMALL = Form(frames=16, width=32, height=32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": SMALL}, "frames: None -> 16; height: None -> 32; width: None -> 32"),
        ({"form": Form(init_frames=1)}, "init_frames: None -> 1"),
        ({"splits": ["val"]}, "split: None -> val"),
        ({"limit": 1}, "limit: None -> 1"),
        ({"match": "cup"}, "filter: None -> cup"),
    ],
)
def test_other_options_do_not_replace_a_dataset_unasked(raw, workspace, options, said):
    folder = run(raw, workspace)[0].folder
    before = tree(folder, but=(".lock",))
    with pytest.raises(Misuse, match="was prepared with other options") as refused:
        run(raw, workspace, **options)
    assert refused.value.message.endswith(f": {said}") and refused.value.hint == "--name OTHER, or --replace"
    checked = check("ssv2", raw, workspace, options=PrepareOptions(workers=1, **options))
    assert checked.audit.name == "checked.html"
    after = tree(folder, but=(".lock",))
    assert {path: after[path] for path in before} == before
    assert {str(path) for path in after.keys() - before.keys()} == {"checked.jsonl", "checked.json", "checked.html"}
    assert run(raw, workspace)[0].made == 0


def test_replacing_removes_what_no_longer_belongs_and_nothing_else(raw, workspace):
    folder = run(raw, workspace)[0].folder
    own = folder / "train" / "videos" / "mine.mp4"
    own.write_bytes(b"not ours")
    result = run(raw, workspace, limit=1, replace=True)[0]
    assert (result.made, result.reused) == (0, 2)
    assert {path.name for path in folder.glob("*/videos/*")} == {"1.mp4", "7.mp4", "mine.mp4"}
    run(raw, workspace, form=SMALL, splits=["train"], replace=True)
    assert {path.name for path in folder.glob("*/videos/*")} == {"1.mp4", "2.mp4", "3.mp4", "mine.mp4"}
    for path in folder.glob("*/videos/[0-9].mp4"):
        assert decode(path).frames.shape == (16, 32, 32, 3)
    assert run(raw, workspace, form=SMALL, splits=["train"])[0].made == 0


def test_a_leak_is_not_made_again_after_replacing(workspace, tmp_path):
    copy = write_ssv2(tmp_path / "copy", {"train": [("1", "a"), ("2", "b"), ("3", "c")], "validation": [("7", "d")]})
    (copy / CLIPS / "1.webm").write_bytes((copy / CLIPS / "7.webm").read_bytes())
    assert run(copy, workspace, limit=2)[0].counts["train"] == 1
    assert run(copy, workspace, replace=True)[0].made == 1 and run(copy, workspace)[0].made == 0


def test_hostile_names_stay_inside(workspace, tmp_path):
    root = tmp_path / "raw"
    for name in ("a b", "a_b", "ä" * 60, "-rf", "x;y"):
        write_video(root / f"{name}.mp4", moving_square())
    rows = [{"file_name": f"{name}.mp4", "text": "x"} for name in ("a b", "a_b", "ä" * 60, "-rf", "x;y")]
    outside = write_video(tmp_path / "outside.mp4", moving_square())
    rows += [{"file_name": "../outside.mp4", "text": "x"}, {"file_name": str(outside), "text": "y"}]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run(root, workspace, reader="folder", name="mine")[0]
    names = sorted(path.name for path in result.folder.glob("*/videos/*"))
    assert sum(result.counts.values()) == len(names) == 7
    assert "a_b.mp4" in names and "a_b-2.mp4" in names and "outside.mp4" in names and "outside-2.mp4" in names
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "data", "outside.mp4"}


def test_folder_reader_takes_the_folders_name(workspace, tmp_path):
    root = tmp_path / "My clips"
    for name in ("a", "b"):
        write_video(root / f"{name}.mp4", moving_square(seed=ord(name)))
        (root / f"{name}.txt").write_text(f"caption {name}")
    assert run(root, workspace, reader="folder")[0].folder.name == "my-clips"


def test_another_raw_folder_does_not_replace_a_dataset_unnoticed(raw, workspace, tmp_path):
    run(raw, workspace, limit=1)
    with pytest.raises(FcaError, match="was prepared from ssv2") as error:
        run(write_ssv2(tmp_path / "other", LABELS), workspace)
    assert "--name" in error.value.hint and "--replace" in error.value.hint
    assert run(write_ssv2(tmp_path / "other", LABELS), workspace, replace=True)[0].counts["train"] == 3


def test_a_raw_folder_that_has_moved_is_the_same(workspace, tmp_path):
    run(write_ssv2(tmp_path / "one" / "raw", LABELS), workspace)
    (tmp_path / "one").rename(tmp_path / "two")
    again, _, _ = run(tmp_path / "two" / "raw", workspace)
    assert (again.made, again.reused) == (0, 4)


def test_a_replacement_that_comes_to_nothing_leaves_what_was_there(raw, workspace):
    run(raw, workspace)
    before = (workspace.dataset() / "dataset.json").read_text()
    with pytest.raises(FcaError, match="none of the 4 clips can be used"):
        run(raw, workspace, form=Form(frames=99), replace=True)
    assert (workspace.dataset() / "dataset.json").read_text() == before
    assert run(raw, workspace)[0].reused == 4


def test_no_train_clip_left_as_its_content_is_in_val_is_a_warning(workspace, tmp_path):
    raw = write_ssv2(tmp_path / "raw", {"train": [("1", "a")], "validation": [("7", "b")]})
    (raw / CLIPS / "1.webm").write_bytes((raw / CLIPS / "7.webm").read_bytes())
    assert any("no train clip is left" in text and "audit.html" in text for text in run(raw, workspace)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit must be at least 1"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"splits": ["valid"]}, "there is no split valid"),
        ({"name": "../x"}, "--name takes a plain name"),
        ({"reader": "webvid"}, "known: ssv2, .*folder"),
    ],
)
def test_misuse(raw, workspace, options, message):
    with pytest.raises(Misuse, match=message):
        run(raw, workspace, **options)


def test_only_clips_without_prompt_is_an_error(workspace, tmp_path):
    write_ssv2(tmp_path / "raw", {"test": [("1", "")]})
    with pytest.raises(FcaError, match="holds no clips with a prompt"):
        run(tmp_path / "raw", workspace)


SCRIPT = """
import sys
from pathlib import Path
from fcacli.workflows.prepare import prepare
from fcacli.workspace import Workspace

if __name__ == "__main__":
    def report(event):
        print(event, flush=True)
    prepare("ssv2", Path(sys.argv[1]), Workspace(Path(sys.argv[2])), workers=2, report=report)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_leaves_whole_clips_and_goes_on(tmp_path, number):
    raw = write_ssv2(tmp_path / "raw", {"train": [(str(n), "x") for n in range(12)]}, frames=40, width=320)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(raw), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "done=2" in line:
            break
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    process.stdout.read()  # until the workers, too, are gone
    assert process.wait(timeout=60) != 0
    dataset = tmp_path / "data" / "ssv2"
    assert not (dataset / "dataset.json").exists()
    made = [path for path in dataset.glob("train/videos/*") if not path.name.startswith(".")]
    assert 2 <= len(made) < 12
    for path in made:
        assert len(decode(path).frames) == 40
    if number == signal.SIGINT:
        assert len(made) == len(list(dataset.glob("train/videos/*")))
    result = run(raw, Workspace(tmp_path))[0]
    assert sum(result.counts.values()) == 12 and result.reused >= 2


def test_real_something_something(workspace):
    result, texts, _ = run(fixture("ssv2"), workspace, workers=2)
    assert result.counts == {"train": 3, "val": 1, "test": 0} and result.skipped == []
    clips = [*read_split(result.folder, "train"), *read_split(result.folder, "val")]
    assert [(clip.id, clip.frames, clip.width, clip.height, clip.frame_times[-1]) for clip in clips] == [
        ("57082", 38, 427, 240, 3.083),
        ("2", 48, 427, 240, 3.917),
        ("13201", 49, 320, 240, 4.0),
        ("166766", 49, 427, 240, 4.0),
    ]
    assert len(texts) == 2


def test_real_edge_cases_have_the_right_outcome(workspace, tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    for path in fixture("decode_edge").glob("*.m*"):
        (root / path.name).symlink_to(path)
        (root / path.name).with_suffix(".txt").write_text(path.stem)
    result = run(root, workspace, reader="folder", min_frames=3)[0]
    clips = {clip.id: clip for split in ("train", "val") for clip in read_split(result.folder, split)}
    found = {id: (clip.frames, clip.width, clip.height) for id, clip in clips.items()}
    assert found == {
        "av1_video": (125, 640, 360),
        "flipping_a_pancake": (310, 426, 240),
        "part_0": (32, 455, 256),  # its pixels are not square
        "test_video_66x50": (82, 66, 50),
        "video_0": (3, 568, 320),
        "video_270": (3, 320, 568),
    }
    assert [(clip.id, clip.reason) for clip in result.skipped] == [
        ("corrupted", "decoding ends after 28 frames: Invalid data found when processing input")
    ]
