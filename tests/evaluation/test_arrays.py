"""Videos as NumPy arrays: bytes as they are, everything else refused with its reason, no pickle, no memory for a claim."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fcacli.data.images import Unreadable
from fcacli.evaluation.arrays import read_array

VIDEO = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("video", [VIDEO, np.asfortranarray(VIDEO), VIDEO[:, ::2]], ids=["C", "Fortran", "strided"])
def test_npy_and_npz_come_back_as_they_were(tmp_path: Path, video: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", video)
    np.savez(tmp_path / "b.npz", video=video)
    np.savez_compressed(tmp_path / "c.npz", video)
    for name in ("a.npy", "b.npz", "c.npz"):
        assert (read_array(tmp_path / name, 10**6) == video).all()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (VIDEO / 255.0, r"values are float64, not bytes; write np\.rint"),
        (VIDEO.astype(np.int64), "values are int64"),
        (VIDEO.astype(bool), "values are bool"),
        (VIDEO.transpose(0, 3, 1, 2), r"its shape is \(5, 3, 12, 16\); a video is \(T, H, W, 3\)"),
        (VIDEO[None], r"its shape is \(1, 5, 12, 16, 3\)"),
        (VIDEO[:0], r"its shape is \(0, 12, 16, 3\)"),
        (np.array([VIDEO, None], dtype=object), "not bytes"),
    ],
    ids=["float", "int64", "bool", "channels-first", "batch", "empty", "objects"],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_other_arrays_are_refused_with_the_reason(tmp_path: Path, array: np.ndarray, said: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    np.save(path, array, allow_pickle=True) if suffix == "npy" else np.savez(path, array)
    with pytest.raises(Unreadable, match=said):
        read_array(path, 10**6)


def test_a_claim_takes_no_memory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000, 3)})
    (tmp_path / "a.npy").write_bytes(buffer.getvalue() + b"123")
    with pytest.raises(Unreadable, match="its header says 3000000000000 bytes, 3 are there"):
        read_array(tmp_path / "a.npy", 10**6)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue() + b"123")
    with pytest.raises(Unreadable, match="its header says"):
        read_array(tmp_path / "b.npz", 10**6)


def test_a_long_video_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VIDEO)
    pixels = 5 * 12 * 16
    assert len(read_array(tmp_path / "a.npy", pixels)) == 5
    with pytest.raises(Unreadable, match="5 frames of 16x12 are more"):
        read_array(tmp_path / "a.npy", pixels - 1)


def test_damaged_and_crowded_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=VIDEO, b=VIDEO)
    with pytest.raises(Unreadable, match=r"two\.npz: it should hold one array, it holds 2: a, b"):
        read_array(tmp_path / "two.npz", 10**6)
    np.save(tmp_path / "cut.npy", VIDEO)
    whole = (tmp_path / "cut.npy").read_bytes()
    for data in (whole[:-1], whole[:40], whole[:5], b"", b"PK\x03\x04 nothing"):
        for name in ("cut.npy", "cut.npz"):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(Unreadable, match=f"cannot read .*{name}"):
                read_array(tmp_path / name, 10**6)
