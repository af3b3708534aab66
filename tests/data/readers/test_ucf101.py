"""UCF-101: three divisions, prompts from class names, irregular time stamps."""

import pytest
from fixtures_path import fixture
from raw_videos import moving_square
from twins import decoded, facts, found, write_avi

from fcacli.data.readers.ucf101 import words
from fcacli.errors import FcaError, Misuse

CLIPS = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "YoYo/v_YoYo_g01_c02", "HandstandPushups/v_HandStandPushups_g01_c01"]


def ucf(root, videos=CLIPS, folder="UCF-101"):
    for number, name in enumerate(videos):
        write_avi(root / folder / f"{name}.avi", moving_square(10 + number, seed=number))
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    for fold in (1, 2, 3):
        held = CLIPS[fold - 1]
        (lists / f"trainlist0{fold}.txt").write_text("".join(f"{name}.avi 1\r\n" for name in CLIPS if name != held))
        (lists / f"testlist0{fold}.txt").write_text(f"{held}.avi")  # no label, no newline
    return root


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_three_divisions_with_the_test_list_as_val(tmp_path, fold):
    records, notes = found("ucf101", ucf(tmp_path), fold=fold)
    prompts = dict(zip(CLIPS, ["Apply Eye Makeup", "Yo Yo", "Handstand Pushups"], strict=True))
    held = CLIPS[fold - 1]
    order = [*(name for name in CLIPS if name != held), held]
    assert [facts(record) for record in records] == [
        (name, prompts[name], "val" if name == held else "train", 10 + CLIPS.index(name), "") for name in order
    ]
    assert decoded(records[0])[1][:3] == pytest.approx([0.0, 0.04, 0.08])
    assert notes == []


@pytest.mark.parametrize("folder", [".", "UCF-101", "download/UCF101/UCF-101"])
def test_videos_anywhere_below(tmp_path, folder):
    assert len(found("ucf101", ucf(tmp_path, CLIPS[:1], folder))[0]) == 1


def test_class_names_become_words():
    assert words("ApplyEyeMakeup") == "Apply Eye Makeup" and words("TaiChi") == "Tai Chi" and words("Archery") == "Archery"


def test_what_is_missing_is_said(tmp_path):
    ucf(tmp_path, CLIPS[:2])
    lists = tmp_path / "ucfTrainTestlist"
    (lists / "trainlist01.txt").write_text((lists / "trainlist01.txt").read_text() + "../../etc/passwd 3\n")
    records, notes = found("ucf101", tmp_path)
    assert [record.split for record in records] == ["train", "val"]
    assert "trainlist01.txt line 3: expected Class/v_Class_g01_c01.avi, found '../../etc/passwd 3'" in notes[0]
    assert "1 of 3 listed videos are not there, e.g." in notes[1]
    (lists / "testlist02.txt").unlink()
    assert found("ucf101", tmp_path, fold=2)[1][0] == "testlist02.txt is not there: no val clips"


def test_each_missing_thing_is_one_clear_error(tmp_path):
    with pytest.raises(Misuse, match="--fold must be 1, 2 or 3"):
        found("ucf101", ucf(tmp_path / "a"), fold=4)
    (tmp_path / "b").mkdir()
    write_avi(tmp_path / "b" / "YoYo" / "v_YoYo_g01_c01.avi", moving_square(2))
    with pytest.raises(FcaError, match=r"no trainlist01\.txt and no testlist01\.txt"):
        found("ucf101", tmp_path / "b")
    with pytest.raises(FcaError, match="no videos below"):
        found("ucf101", ucf(tmp_path / "c", []))
    with pytest.raises(FcaError, match="none of the 3 listed videos is there"):
        found("ucf101", ucf(tmp_path / "d", ["Other/v_Other_g01_c01"]))


def test_real_sample():
    records, notes = found("ucf101", fixture("ucf101"))
    assert [facts(record) for record in records] == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "Apply Eye Makeup", "val", 164, "")
    ]
    frames, times, _ = decoded(records[0])
    assert frames.shape == (164, 240, 320, 3) and times[:2] == pytest.approx([0.04, 0.08])
    assert len(notes) == 1 and notes[0].startswith("13,319 of 13,320 listed videos are not there")
