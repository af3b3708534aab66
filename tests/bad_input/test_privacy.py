"""Nothing is sent anywhere unless a hub model was named, and no code from a data, base or adapter folder is run."""

import contextlib
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_table import CHECKPOINT, fca

from fcacli.errors import FcaError

ROOT = Path(__file__).parents[2]
NO_SOCKETS = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit("NETWORK " + repr(arguments))
socket.getaddrinfo = socket.create_connection = socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
from fcacli.cli.app import main
main()
"""


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def program(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fca ARGUMENTS` as a program of its own that cannot reach any network."""
    command = [sys.executable, "-c", NO_SOCKETS, *map(str, arguments)]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hub"), **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=surroundings)


@pytest.fixture
def base(stage) -> Path:
    """A copy of the base, to spoil."""
    folder = stage.root / "spoilt-base"
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(stage.base, folder)


def load(folder: Path):
    """Every part of a base, loaded."""
    from fcacli.model.bases import load_base, resolve_base

    loaded = load_base(resolve_base(str(folder)))
    return [getattr(loaded, part) for part in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler", "image_encoder")]


# ---------------------------------------------------------------- nothing is sent


@pytest.mark.slow
def test_predict_and_eval_on_a_folder_open_no_socket(stage):
    folder = stage.fresh("run")
    done = program(folder, "predict", "frames", "pushing cup", "--steps", "1")
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr + done.stdout


def test_a_named_hub_model_is_the_only_way_to_the_network(stage):
    """The same program, asked for a hub model, does try: the guard above can fail."""
    done = program(stage.fresh("run"), "train", "--new", "--gpus", "0", "--base", "someone/some-model", HF_HUB_OFFLINE="0")
    assert done.returncode != 0
    assert "NETWORK" in done.stderr + done.stdout or "cannot fetch someone/some-model" in done.stderr


def test_offline_mode_is_one_error_without_a_socket(stage):
    done = program(stage.fresh("run"), "train", "--new", "--gpus", "0", "--base", "someone/some-model", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "NETWORK" not in done.stderr + done.stdout
    assert done.stderr.count("error: ") == 1
    assert "cannot fetch someone/some-model" in done.stderr and "--base FOLDER" in done.stderr


def test_telemetry_is_off(stage, monkeypatch):
    names = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FCA_DEBUG", "1")  # not even then
    from fcacli.libraries import quiet_libraries

    quiet_libraries()
    assert [os.environ.pop(name) for name in names] == ["1"] * 3


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/a.mp4'\n",
        "ffconcat version 1.0\nfile 'given.mp4'\n",
    ],
    ids=["hls", "concat", "concat of a file"],
)
def test_a_play_list_under_the_name_of_a_video_opens_nothing(stage, text):
    from fcacli.data.decode import decode

    folder, calls = stage.fresh("run"), []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(1)
        (folder / "bad.mp4").write_text(text.format(port=server.getsockname()[1]))

        def answer() -> None:
            with contextlib.suppress(OSError):
                calls.append(server.accept())

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(FcaError, match="cannot read"):
            decode(folder / "bad.mp4")
        thread.join()
    assert calls == []


# ---------------------------------------------------------------- nothing is run


def test_remote_code_is_trusted_nowhere():
    for path in (ROOT / "fcacli").rglob("*.py"):
        assert not re.search(r"trust_remote_code\s*=\s*(?!False)", path.read_text()), path


@pytest.mark.parametrize("part", ["tokenizer/tokenizer_config.json", "text_encoder/config.json", "clip/config.json"])
def test_code_that_a_base_carries_is_not_run(base, tmp_path, part):
    marker, config = tmp_path / "ran", base / part
    values = json.loads(config.read_text())
    names = ("AutoConfig", "AutoModel", "AutoTokenizer")
    values["auto_map"] = {name: "evil.Evil" for name in names} | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    config.write_text(json.dumps(values))
    for folder in (base, config.parent):
        (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
        (folder / "__init__.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    try:
        load(base)
    except FcaError as error:
        assert "cannot load" in error.message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("transformer", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "pytorch_model"),
        ("clip", "pytorch_model"),
    ],
)
def test_a_base_with_pickled_weights_is_refused_unread(base, tmp_path, part, name):
    marker = tmp_path / "ran"
    for file in (base / part).glob("*.safetensors"):
        file.unlink()
    (base / part / f"{name}.bin").write_bytes(pickle.dumps({"weight": Bomb(marker)}))
    with pytest.raises(FcaError, match=r"cannot load the .*safetensors"):
        load(base)
    assert not marker.exists()


def test_an_adapter_that_is_a_pickle_is_not_unpickled(stage, tmp_path):
    from fcacli.model.attach import load_adapter
    from fcacli.model.bases import load_base, resolve_base

    checkpoint, marker = stage.fresh("run") / CHECKPOINT, tmp_path / "ran"
    (checkpoint / "adapter.safetensors").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(FcaError, match="cannot read"):
        load_adapter(load_base(resolve_base(str(stage.base))), checkpoint)
    assert not marker.exists()


def test_the_state_of_an_optimizer_is_read_as_tensors_only(stage, tmp_path):
    import torch

    from fcacli.training.checkpoint import load_optimizer

    checkpoint, marker = stage.fresh("run") / CHECKPOINT, tmp_path / "ran"
    torch.save({"state": Bomb(marker)}, checkpoint / "optimizer.pt")
    with pytest.raises(FcaError, match=r"cannot read .*optimizer\.pt"):
        load_optimizer(checkpoint, torch.optim.SGD([torch.zeros(1, requires_grad=True)]))
    assert not marker.exists()


# ---------------------------------------------------------------- nothing commands the terminal


MARKUP, ESCAPES = ["[red]x[/red]", "[/]", "[link=x]"], ["\x1b[2J\x1b]0;title\x07", "\x9b31m", "a\rb", "\u202egnp.exe"]


@pytest.mark.parametrize("said", [*MARKUP, *ESCAPES])
def test_what_files_say_is_printed_harmlessly(stage, said):
    folder = stage.fresh("folder")
    row = json.dumps({"file_name": f"train/{said}.mp4", "text": said})
    with (folder / "raw" / "metadata.jsonl").open("a") as file:
        file.write(row + "\n")
    outcome = fca(folder, "prepare folder raw --workers 1", stage)
    shown = said
    for hostile in set(said) & set("\x1b\x07\x9b\r\u202e"):
        shown = shown.replace(hostile, f"\\u{ord(hostile):04x}")
    assert outcome.exit_code == 0, outcome.stderr
    assert f"train/{shown}.mp4" in outcome.stderr
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", outcome.stderr + outcome.stdout)


def test_what_is_printed_as_data_is_harmless_and_still_json(capsys):
    from fcacli.cli import console

    hostile = "[red]\x1b[31m\x9b\x7f\ud800 \u202e äöü 日本 🙂"
    console.print_json({"text": hostile})
    out = capsys.readouterr().out
    assert json.loads(out)["text"] == hostile
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", out)
    assert "äöü 日本 🙂" in out
