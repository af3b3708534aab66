"""Where weights are looked for, and what is said of a file: the one stated, the one used before, or another."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcacli.errors import FcaError
from fcacli.evaluation import weights
from fcacli.evaluation.weights import WEIGHTS, cache_folder, check_weights, checksum_state, find_weights, weights_of

LINEAR = "alex.pth"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Caches of its own for each test."""
    from huggingface_hub import constants

    for name in ("FCA_WEIGHTS", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def stated(monkeypatch):
    """Call: WEIGHTS states the checksum of these bytes for a file."""

    def state(name: str, file: str, content: bytes) -> None:
        monkeypatch.setitem(WEIGHTS[name].sha256, file, hashlib.sha256(content).hexdigest())

    return state


def put(folder: Path, *names: str, content: bytes = b"weights") -> Path:
    """A folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)
    return folder


def test_every_checksum_is_a_whole_sha256_and_agrees_with_the_file_name():
    for entry in WEIGHTS.values():
        for file, digest in entry.sha256.items():
            assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")
            suffix = file.split(".")[0].split("-")[-1]
            assert len(suffix) != 8 or digest.startswith(suffix), file
        assert entry.stated_by and entry.licence and entry.source.startswith("https://")
        assert entry.hub_id or entry.source.endswith(entry.file)


def test_each_metric_names_its_weights():
    assert weights_of("lpips") == ("lpips-trunk", "lpips-linear")
    assert weights_of("fvd") == weights_of("kvd-seer") == ("i3d",)
    assert weights_of("psnr") == weights_of("mini-fvd") == ()


def test_the_folder_given_comes_before_the_variable_the_cache_and_torch(home, monkeypatch):
    torch_home = put(home / "cache" / "torch" / "hub" / "checkpoints", LINEAR)
    assert find_weights("lpips-linear") == torch_home / LINEAR
    assert find_weights("lpips-linear", put(home / "empty")) == torch_home / LINEAR
    cache = put(cache_folder(), LINEAR)
    assert find_weights("lpips-linear") == cache / LINEAR
    monkeypatch.setenv("FCA_WEIGHTS", str(put(home / "variable", LINEAR)))
    assert find_weights("lpips-linear") == home / "variable" / LINEAR
    assert find_weights("lpips-linear", put(home / "given", LINEAR)) == home / "given" / LINEAR
    assert find_weights("i3d") is None


def test_a_file_under_a_name_of_ones_own_is_found_first(home):
    folder = put(home / "given", "i3d.pt", "i3d_pretrained_400.pt")
    assert find_weights("i3d", folder) == folder / "i3d.pt"
    assert check_weights("i3d", folder / "i3d.pt") == "unverified, pinned"


def test_a_folder_that_is_none_is_named(home, monkeypatch):
    with pytest.raises(FcaError, match=r"--weights-dir .*nowhere is not a folder"):
        find_weights("i3d", home / "nowhere")
    monkeypatch.setenv("FCA_WEIGHTS", str(home / "nowhere"))
    with pytest.raises(FcaError, match=r"FCA_WEIGHTS .*nowhere is not a folder"):
        find_weights("i3d")


def test_clip_is_a_whole_folder_here_or_in_the_hubs_cache(home):
    entry, whole = WEIGHTS["clip"], ("config.json", "preprocessor_config.json", "tokenizer.json", "pytorch_model.bin")
    snapshots = home / "hub" / "models--openai--clip-vit-base-patch32" / "snapshots"
    put(snapshots / "0part", *whole[:3])
    assert find_weights("clip") is None
    other, meant = put(snapshots / "1other", *whole), put(snapshots / entry.revision, *whole)
    assert find_weights("clip") == meant
    (meant / "config.json").unlink()
    assert find_weights("clip") == other
    assert find_weights("clip", put(home / "given" / "clip", *whole).parent) == home / "given" / "clip"


def test_the_stated_file_is_verified_and_another_refused(home, stated):
    path = put(home, LINEAR, content=b"meant") / LINEAR
    stated("lpips-linear", LINEAR, b"meant")
    assert check_weights("lpips-linear", path) == checksum_state("lpips-linear", path) == "verified"
    path.write_bytes(b"other")
    with pytest.raises(FcaError, match=r"alex\.pth is not the alex\.pth that lpips-linear means") as error:
        check_weights("lpips-linear", path)
    assert "fca weights --fetch lpips-linear" in error.value.hint
    assert not (cache_folder() / weights.PINS).exists()


def test_of_a_clip_folder_the_weights_are_compared(home, stated):
    stated("clip", "model.safetensors", b"meant")
    folders = [put(home / name, "model.safetensors", content=b"meant") for name in ("clip-vit-base-patch32", "clip")]
    assert [check_weights("clip", folder) for folder in folders] == ["verified", "verified"]
    for folder in folders:
        put(folder, "model.safetensors", content=b"other")
    with pytest.raises(FcaError, match=r"model\.safetensors is not"):
        check_weights("clip", folders[0])
    with pytest.raises(FcaError, match=r"model\.safetensors is not"):
        check_weights("clip", put(home / WEIGHTS["clip"].hub_folder / "snapshots" / "1", "model.safetensors"))
    assert check_weights("clip", folders[1]) == "unverified, pinned"  # under a name that claims nothing


def test_a_file_of_another_name_is_pinned_on_first_use_and_cannot_change_unseen(home, monkeypatch):
    path = put(home, "mine.pt", content=b"first") / "mine.pt"
    assert checksum_state("i3d", path) == "unverified"  # looking is not using
    assert check_weights("i3d", path) == "unverified, pinned"
    assert checksum_state("i3d", path) == check_weights("i3d", path) == "unverified, pinned"
    assert list(json.loads((cache_folder() / weights.PINS).read_text()).values()) == [hashlib.sha256(b"first").hexdigest()]
    path.write_bytes(b"second")
    monkeypatch.chdir(home)
    with pytest.raises(FcaError, match="has changed"):  # the same file by a shorter way
        check_weights("i3d", Path("mine.pt"))
    with pytest.raises(FcaError, match=r"mine\.pt has changed since it was first used for i3d") as error:
        check_weights("i3d", path)
    assert weights.PINS in error.value.hint
    assert check_weights("i3d", put(home / "elsewhere", "mine.pt", content=b"second") / "mine.pt") == "unverified, pinned"


def test_a_cache_that_cannot_be_written_keeps_no_pins_and_stops_nothing(home):
    put(home / "cache").joinpath("fca").write_text("a file in the way")
    assert check_weights("i3d", put(home, "mine.pt") / "mine.pt") == "unverified, not pinned"


def test_damaged_pins_are_one_error(home):
    put(cache_folder()).joinpath(weights.PINS).write_text("[]")
    with pytest.raises(FcaError, match="does not hold an object"):
        check_weights("i3d", put(home, "mine.pt") / "mine.pt")


def test_a_file_that_cannot_be_read_is_one_error(home):
    with pytest.raises(FcaError, match=r"cannot read .*: No such file"):
        check_weights("i3d", home / "mine.pt")


def test_knowing_the_weights_loads_no_heavy_module():
    code = "import sys, fcacli.evaluation.weights; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
