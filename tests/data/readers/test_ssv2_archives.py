"""Something-Something from the downloaded parts: streamed, never unpacked to the disk, whatever the archive holds."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest
from fixtures_path import fixture
from raw_videos import cut
from twins import decoded, facts, found, webm, write_tar

from fcacli.errors import FcaError

NAME = "20bn-something-something-v2"
LABELS = [("2", "pushing cup"), ("4", "lifting box"), ("77", "dropping pen"), ("9", "not there")]


def archive(root, members, wrapped=(), parts=3, suffix="", labels=LABELS):
    """`members` in a tar.gz, cut in parts; those of number `wrapped` in a ZIP file each."""
    (root / "labels").mkdir(parents=True)
    rows = [{"id": id, "label": text} for id, text in labels]
    (root / "labels" / "train.json").write_text(json.dumps(rows[:-2]))
    (root / "labels" / "validation.json").write_text(json.dumps(rows[-2:]))
    data = write_tar(root / "all", members, "w:gz").read_bytes()
    (root / "all").unlink()
    size = len(data) // parts + 1
    for number in range(parts):
        path = root / f"{NAME}-{number:02}{suffix}"
        piece = data[number * size : (number + 1) * size]
        if number in wrapped:
            with zipfile.ZipFile(path, "w") as wrapper:
                wrapper.writestr(f"{NAME}-{number:02}", piece)
        else:
            path.write_bytes(piece)
    return root


def clips(tmp_path, *ids):
    return [(f"{NAME}/{id}.webm", webm(tmp_path / "made", id)) for id in ids]


@pytest.mark.parametrize(("wrapped", "suffix"), [((), ""), ((), ".zip"), ((0, 1, 2), ".zip"), ((1,), ".zip")])
def test_parts_are_zip_or_raw_by_their_first_bytes(tmp_path, wrapped, suffix):
    root = archive(tmp_path / "raw", clips(tmp_path, "77", "2", "5", "4"), wrapped, suffix=suffix)
    before = sorted(root.rglob("*"))
    records, notes = found("ssv2", root)
    assert [facts(record) for record in records] == [
        ("77", "dropping pen", "val", 18, ""),
        ("2", "pushing cup", "train", 18, ""),
        ("4", "lifting box", "train", 18, ""),
    ]
    assert decoded(records[0])[1][:3] == pytest.approx([0.0, 1 / 12, 2 / 12], abs=1e-3)
    assert records[0].source.label(root) == f"{NAME}-00{suffix}#77.webm"
    assert notes == ["labels list 4 clips with a prompt: 1 have no video here, 1 videos have no label"]
    assert sorted(root.rglob("*")) == before


def test_twenty_parts_go_in_the_order_of_their_numbers(tmp_path):
    root = archive(tmp_path / "raw", clips(tmp_path, "2", "4"), parts=20)
    assert len(found("ssv2", root)[0]) == 2


def test_a_missing_part_is_named(tmp_path):
    root = archive(tmp_path / "raw", clips(tmp_path, "2", "4"))
    (root / f"{NAME}-01").unlink()
    with pytest.raises(FcaError, match="part 01 of the downloaded archive is missing"):
        found("ssv2", root)


def test_a_cut_last_part_keeps_the_clips_before_it(tmp_path):
    root = archive(tmp_path / "raw", clips(tmp_path, "2", "4", "77"))
    cut(root / f"{NAME}-02", 0.5)
    records, notes = found("ssv2", root)
    assert [record.id for record in records] == ["2", "4"]
    assert "is damaged or a part of it is missing" in notes[0] and "2 clips before that place are there" in notes[0]


def test_nothing_leaves_the_archive_but_clips_by_their_number(tmp_path):
    link, hard, device = (tarfile.TarInfo(f"{NAME}/{id}.webm") for id in ("2", "4", "9"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../77.webm"
    device.type = tarfile.CHRTYPE
    data = webm(tmp_path / "made", "77")
    evil = [("/tmp/evil.webm", b"x"), ("../../2x.webm", b"x"), ("../../../77.webm", data), (f"{NAME}/labels.pkl", b"x")]
    root = archive(tmp_path / "raw", [link, hard, device, *evil])
    before = sorted(tmp_path.rglob("*"))
    records, _ = found("ssv2", root)
    assert [facts(record) for record in records] == [("77", "dropping pen", "val", 18, "")]  # its name ends with its id
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_is_not_unpacked(tmp_path):
    root = archive(tmp_path / "raw", [("1.webm", b"")])
    for path in root.glob(f"{NAME}-*"):
        path.unlink()
    info = tarfile.TarInfo("2.webm")
    info.size = 2**40
    (root / f"{NAME}-00").write_bytes(gzip.compress(info.tobuf() + bytes(2**20)))
    with pytest.raises(FcaError, match="unpacks to more than 16 times its size"):
        found("ssv2", root)


def test_a_header_of_a_terabyte_is_not_read(tmp_path):
    root = archive(tmp_path / "raw", [("1.webm", b"")])
    for path in root.glob(f"{NAME}-*"):
        path.unlink()
    info = tarfile.TarInfo("name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    (root / f"{NAME}-00").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    with pytest.raises(FcaError, match="damaged"):
        found("ssv2", root)


def test_a_wrapper_that_is_a_bomb_or_holds_more(tmp_path):
    root = archive(tmp_path / "raw", [("1.webm", b"")], parts=1)
    path = root / f"{NAME}-00"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wrapper:
        wrapper.writestr("x", bytes(2**20))
    with pytest.raises(FcaError, match="unpacks to more than 16 times its size"):
        found("ssv2", root)
    with zipfile.ZipFile(path, "w") as wrapper:
        wrapper.writestr("x", b"1")
        wrapper.writestr("y", b"1")
    with pytest.raises(FcaError, match="holds 2 files, expected one part"):
        found("ssv2", root)


def test_archives_of_something_else_are_one_clear_error(tmp_path):
    root = archive(tmp_path / "raw", [(f"{NAME}/555.webm", b"x")])
    with pytest.raises(FcaError, match="hold no clip that has a label"):
        found("ssv2", root)
    (root / f"{NAME}-00").write_bytes(b"<html>not logged in</html>")
    with pytest.raises(FcaError, match="is damaged or a part of it is missing: Not a gzipped file"):
        found("ssv2", root)


def test_real_clips_in_parts(tmp_path):
    real = fixture("ssv2/20bn-something-something-v2")
    members = [(f"{NAME}/{path.name}", path.read_bytes()) for path in sorted(real.glob("*.webm"))]
    root = archive(tmp_path / "raw", members, wrapped=(0,))
    for split in ("train", "validation"):
        (root / "labels" / f"{split}.json").write_bytes(fixture(f"ssv2/labels/{split}.json").read_bytes())
    records, notes = found("ssv2", root)
    assert [facts(record) for record in records] == [
        ("13201", "pretending to sprinkle air onto motorcycle seat", "train", 49, ""),
        ("166766", "poking green frog doll so that it falls over", "val", 49, ""),
        ("2", "pretending to pick a pillow up", "train", 48, ""),
        ("57082", "dropping comb into small box", "train", 38, ""),
    ]
    assert notes == ["labels list 25,177 clips with a prompt: 25,173 have no video here, 8 videos have no label"]
    assert io.BytesIO(records[1].source.data).getbuffer().nbytes == 147170
