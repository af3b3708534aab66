import json

import numpy as np
import pyarrow.parquet
import pytest
from fixtures_path import fixture

from fcacli.data.readers import read
from fcacli.errors import FcaError
from fcacli.prediction.video import write_png


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def records(root):
    notes = []
    return [(r.id, r.text, r.split) for r in read("folder", root, notes.append)], notes


def test_metadata_jsonl(tmp_path):
    touch(tmp_path, "videos/a.mp4", "videos/b.webm")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "videos/b.webm", "text": "lifting cup"}\n\n{"video": "videos/a.mp4", "prompt": "dropping box"}'
    )
    assert records(tmp_path) == ([("videos/b", "lifting cup", "train"), ("videos/a", "dropping box", "train")], [])


def test_metadata_csv_with_literal_quotes_and_commas(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "metadata.csv").write_text('\ufeffvideo,caption\r\na.mp4,"""lifting, cup"""\r\n"b.mp4",say "hi" twice')
    assert records(tmp_path)[0] == [("a", "lifting, cup", "train"), ("b", 'say "hi" twice', "train")]


@pytest.mark.parametrize("names", [("videos.txt", "prompts.txt"), ("video.txt", "captions.txt")])
def test_two_lists_line_by_line(tmp_path, names):
    touch(tmp_path, "v/a.mp4", "v/b.mp4")
    (tmp_path / names[0]).write_text("v/a.mp4\r\nv/b.mp4")  # the last line lacks a newline
    (tmp_path / names[1]).write_text('"lifting cup"\ndropping\u2028box\n\n')
    assert records(tmp_path)[0] == [("v/a", "lifting cup", "train"), ("v/b", "dropping\u2028box", "train")]


def test_a_text_beside_each_video(tmp_path):
    touch(tmp_path, "b.mp4", "sub/a.webm", "bare.mov", "._b.mp4", ".git/x.mp4")
    (tmp_path / "b.txt").write_text(" lifting\n cup\n")
    (tmp_path / "sub" / "a.txt").write_text("dropping box")
    assert records(tmp_path) == (
        [("b", "lifting cup", "train"), ("bare", "", "train"), ("sub/a", "dropping box", "train")],
        [],
    )


def test_folders_named_as_splits_are_splits(tmp_path):
    for split in ("train", "validation", "test"):
        touch(tmp_path, f"{split}/videos/a.mp4")
        (tmp_path / split / "metadata.jsonl").write_text('{"file_name": "videos/a.mp4", "text": "lifting cup"}')
    assert [split for *_, split in records(tmp_path)[0]] == ["test", "train", "val"]
    pairs = tmp_path / "train" / "pairs"
    touch(pairs, "val/a.mp4")
    (pairs / "val" / "a.txt").write_text("x")
    assert records(pairs)[0] == [("val/a", "x", "val")]


def test_listed_videos_that_are_not_there_are_counted(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "videos.txt").write_text("a.mp4\nb.mp4\n")
    (tmp_path / "prompts.txt").write_text("x\ny\n")
    found, notes = records(tmp_path)
    assert len(found) == 1 and notes == [f"1 of 2 listed videos are not there, e.g. {tmp_path / 'b.mp4'}"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.md": ""}, "no videos below"),
        ({"a.mp4": ""}, "no video below .* has a caption"),
        ({"a.mp4": "", "metadata.jsonl": "{"}, "metadata.jsonl line 1 is not valid JSON"),
        ({"a.mp4": "", "metadata.jsonl": "[]"}, "line 1 should be an object, found list"),
        ({"a.mp4": "", "metadata.jsonl": '{"file_name": "a.mp4", "text": 3}'}, "text should be text, found int"),
        ({"a.mp4": "", "metadata.jsonl": '{"path": "a.mp4", "text": "x"}'}, "no column file_name or video; it has path, text"),
        ({"a.mp4": "", "metadata.csv": "video,label\na.mp4,x"}, "no column caption or text or prompt; it has video, label"),
        ({"a.mp4": "", "metadata.csv": "video,text\na.mp4,lifting, cup"}, "line 2 has more values than columns"),
        ({"a.mp4": "", "metadata.csv": 'video,text\na.mp4,"x'}, "not valid CSV"),
        ({"a.mp4": "", "metadata.csv": ""}, "it has none"),
        ({"metadata.csv": "video,text\na.mp4,x"}, "none of the 1 videos listed"),
        ({"metadata.csv": "video,text\n"}, "name no videos"),
        ({"videos.txt": "a.mp4\nb.mp4", "prompts.txt": "x"}, "has 2 lines and prompts.txt 1"),
        ({"a.mp4": "", "metadata.parquet": "PAR1"}, "metadata.parquet is not a Parquet file"),
    ],
)
def test_each_broken_folder_is_one_clear_error(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(FcaError, match=message):
        records(tmp_path)


def test_text_that_is_not_utf8_is_named(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FcaError, match=r"cannot read .*a\.txt"):
        records(tmp_path)


def test_real_folder():
    found, _ = records(fixture("video_folder/finetrainers"))
    assert found == [("videos/hiker", "A hiker standing at the top of a mountain, triumphantly, high quality", "train")]


def write_parquet(path, rows):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_metadata_parquet(tmp_path):
    touch(tmp_path, "v/a.mp4", "v/b.mp4")
    write_parquet(tmp_path / "metadata.parquet", [{"file_name": f"v/{n}.mp4", "n": 1, "caption": t} for n, t in ("bx", "ay")])
    assert records(tmp_path) == ([("v/b", "x", "train"), ("v/a", "y", "train")], [])


def test_metadata_parquet_with_the_videos_inside_is_not_taken_for_paths(tmp_path):
    touch(tmp_path, "a.mp4")
    write_parquet(tmp_path / "metadata.parquet", [{"video": {"bytes": b"x", "path": "a.mp4"}, "text": "y"}])
    with pytest.raises(FcaError, match="row 1: video should be text, found dict"):
        records(tmp_path)
    write_parquet(tmp_path / "metadata.parquet", [{"video": None, "text": "y"}, {"video": "a.mp4", "text": None}])
    with pytest.raises(FcaError, match=r"no video below .* has a caption"):
        records(tmp_path)
    write_parquet(tmp_path / "metadata.parquet", [{"path": "a.mp4", "text": "y"}])
    with pytest.raises(FcaError, match="no column file_name or video; it has path, text"):
        records(tmp_path)


def test_a_broken_row_does_not_cost_the_others(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "metadata.jsonl").write_bytes(
        b'{"file_name": "a.mp4", "text": "x"}\n{\n{"file_name": "b.mp4", "text": "\xff"}\n[1]\n'
    )
    found, notes = records(tmp_path)
    assert found == [("a", "x", "train")] and len(notes) == 1
    assert "metadata.jsonl line 2 is not valid JSON" in notes[0] and notes[0].endswith("and 2 more")


def test_a_video_without_a_caption_is_there_for_the_audit(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "metadata.csv").write_text('video,text\na.mp4,x\nb.mp4,""\n')
    assert records(tmp_path) == ([("a", "x", "train"), ("b", "", "train")], [])


def test_real_lists_and_table_agree(tmp_path):
    import shutil

    shutil.copytree(fixture("video_folder/finetrainers"), tmp_path / "a")
    table, _ = records(tmp_path / "a")
    (tmp_path / "a" / "metadata.csv").unlink()
    assert records(tmp_path / "a") == (table, [])
    for kind in ("videos", "prompts"):
        shutil.move(tmp_path / "a" / f"{kind}_multi.txt", tmp_path / "a" / f"{kind}.txt")
    found, _ = records(tmp_path / "a")
    assert [id for id, *_ in found] == ["videos/hiker", "videos/hiker_tiny"] and {text for _, text, _ in found} == {table[0][1]}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_column_of_splits_is_followed(tmp_path, form):
    """Before folders; a split that is none is said, none at all is that of the folder."""
    rows = [("a", "train"), ("b", "validation"), ("c", "Test"), ("val/d", ""), ("e", "weird")]
    touch(tmp_path, *(f"{name}.mp4" for name, _ in rows))
    table = [{"file_name": f"{name}.mp4", "text": "pushing", "split": split} for name, split in rows]
    path = tmp_path / f"metadata.{form}"
    if form == "csv":
        path.write_text("file_name,text,split\n" + "".join(f"{row['file_name']},pushing,{row['split']}\n" for row in table))
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    found, notes = records(tmp_path)
    assert [(name, split) for name, _, split in found] == [("a", "train"), ("b", "val"), ("c", "test"), ("val/d", "val")]
    assert len(notes) == 1 and "'weird' of e.mp4 is none of train, val, test" in notes[0]


def test_folders_of_pictures_are_clips_where_they_are_named(tmp_path):
    """Listed, or with a caption beside them; others are folders."""
    for name in ("one clip/0.jpg.png", "v1.0/0.png", "loose/0.png"):
        picture(tmp_path / name)
    touch(tmp_path, "loose/x.mp4")
    for name in ("one clip", "v1.0", "loose/x"):
        (tmp_path / f"{name}.txt").write_text("pushing")
    assert [name for name, _, _ in records(tmp_path)[0]] == ["one clip", "v1.0", "loose/x"]
    (tmp_path / "metadata.csv").write_text("video,text\none clip,pushing\nempty,pushing\n")
    (tmp_path / "empty").mkdir()
    found, notes = records(tmp_path)
    assert [name for name, _, _ in found] == ["one clip"] and "1 of 2 listed videos are not there" in notes[0]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/a.mp4")
    (tmp_path / "elsewhere" / "a.txt").write_text("pushing")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "videos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    assert records(tmp_path / "root")[0] == [("videos/a", "pushing", "train")]
