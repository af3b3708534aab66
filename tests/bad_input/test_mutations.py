"""300 spoiled inputs, made with the fixed SEED, through prepare, predict, eval and the loading of adapters.

Each ends within a minute and with at most 2 GiB more memory, as a success or as one known error; nothing but our own lines
reaches the terminal; no good clip is lost and nothing is written where it does not belong. A failure prints how its input
was made; `pytest -m "" tests/bad_input/test_mutations.py -k video-07` repeats one.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from child import Child, Watched
from spoil import DIGITS, HOSTILE, LONG, NESTED, bmp, gif, png, ppm, sized, spoil_bytes, spoil_json
from spoiled_stage import GOOD, Stage, write_labels

SEED = 20_260_807
SECONDS, MEMORY = 60, 2 << 30
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]")

Family = Callable[[Stage, Random, int], tuple[Path, list[str], str]]
"""(stage, random, number of the case) -> folder to work in, command, how the input was made."""


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


# ---------------------------------------------------------------- what is spoiled


def ssv2_video(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """Something-Something with one bad video, or one under a strange name, among good ones."""
    folder = stage.fresh("ssv2")
    videos = folder / "raw" / "20bn-something-something-v2"
    data, what = spoil_bytes(random, (videos / "11.webm").read_bytes())
    id = "66"
    if number % 8 == 7:
        data, what, id = CLAIMS[number // 8 % len(CLAIMS)]()
    (videos / f"{id}.webm").write_bytes(data)
    write_labels(folder / "raw", [{"id": "66", "label": "bad"}, *({"id": i, "label": GOOD[i]} for i in ("11", "12"))])
    return folder, ["prepare", "ssv2", "raw", "--workers", "1"], what


def folder_video(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """A folder of videos with one bad one among good ones: MP4, AVI, GIF, MKV, MOV."""
    folder = stage.fresh("folder")
    suffix = (".mp4", ".avi", ".gif", ".mkv", ".mov")[number % 5]
    data, what = spoil_bytes(random, sample(stage, suffix))
    if number % 8 == 7:
        data, what, _ = CLAIMS[number // 8 % len(CLAIMS)]()
    name = f"train/bad{suffix}"
    (folder / "raw" / name).write_bytes(data)
    with (folder / "raw" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": name, "text": "bad"}) + "\n")
    return folder, ["prepare", "folder", "raw", "--workers", "1"], f"{name}: {what}"


def ssv2_labels(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """One bad row in the labels, or labels spoiled as bytes."""
    folder = stage.fresh("ssv2")
    path = folder / "raw" / "labels" / "train.json"
    rows = [{"id": i, "label": GOOD[i]} for i in ("11", "12")]
    row, what = spoil_json(random, {"id": "66", "label": "bad", "template": "x", "placeholders": ["a"]})
    text = json.dumps(rows).encode()
    path.write_bytes(text[:-1] + b", " + row + b"]")
    shutil.copy(folder / "raw" / "20bn-something-something-v2" / "11.webm", path.parents[1] / "66.webm")
    return folder, ["prepare", "ssv2", "raw", "--workers", "1"], f"an added row of train.json: {what}"


def folder_rows(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """One bad row in metadata.jsonl or metadata.csv, or a bad caption file."""
    folder = stage.fresh("folder")
    raw = folder / "raw"
    if number % 5 == 4:
        (raw / "metadata.jsonl").unlink()
        for id, text in GOOD.items():
            (raw / ("val" if id == "13" else "train") / f"{id}.txt").write_text(text)
        shutil.copy(raw / "train" / "11.mp4", raw / "train" / "bad.mp4")
        caption, what = spoil_bytes(random, random.choice(HOSTILE).encode("utf-8", "surrogatepass") + b"caption")
        (raw / "train" / "bad.txt").write_bytes(caption)
        return folder, ["prepare", "folder", "raw", "--workers", "1"], f"bad.txt: {what}"
    if number % 5 == 3:
        text = "file_name,text\n" + "".join(f"{'val' if i == '13' else 'train'}/{i}.mp4,{t}\n" for i, t in GOOD.items())
        hostile = random.choice(HOSTILE).replace('"', "")
        row = f'"{hostile}","{random.choice(HOSTILE)}"' + random.choice(["", ",more,", "\n,", "\r"])
        (raw / "metadata.jsonl").unlink()
        (raw / "metadata.csv").write_bytes((text + row + "\n").encode("utf-8", "surrogatepass"))
        return folder, ["prepare", "folder", "raw", "--workers", "1"], f"a row of metadata.csv: {row!r:.200}"
    row, what = spoil_json(random, {"file_name": "train/11.mp4", "text": "bad"})
    path = raw / "metadata.jsonl"
    lines = path.read_bytes().splitlines()
    lines.insert(random.randrange(len(lines) + 1), row)
    path.write_bytes(b"\n".join(lines))
    return folder, ["prepare", "folder", "raw", "--workers", "1"], f"a row of metadata.jsonl: {what}"


def image(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """Frames with one bad picture."""
    folder = stage.fresh("run")
    suffix = (".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm")[number % 6]
    data, what = spoil_bytes(random, sample(stage, suffix))
    claims = {
        5: (png(60_000, 60_000), "claims 60000x60000", ".png"),
        11: (bmp(50_000, 50_000), "claims 50000x50000", ".bmp"),
        17: (ppm(2**31 - 1, 2), "claims 2147483647x2", ".ppm"),
        23: (png(8000, 8000, 8000), "all black, 8000x8000", ".png"),
        29: (png(0, 0), "claims 0x0", ".png"),
        35: (png(1, 30_000, 30_000), "1x30000", ".png"),
    }
    if number in claims:
        data, what, suffix = claims[number]
    (folder / "frames" / f"1{suffix}").write_bytes(data)
    return folder, ["predict", "frames", "pushing cup", "--steps", "1"], f"frames/1{suffix}: {what}"


def given_video(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """A bad video as the given frames."""
    folder = stage.fresh("run")
    suffix = (".mp4", ".gif", ".avi", ".webm", ".mkv")[number % 5]
    data, what = spoil_bytes(random, sample(stage, suffix))
    if number % 4 == 3:
        data, what, _ = CLAIMS[number // 4 % len(CLAIMS)]()
    (folder / f"bad{suffix}").write_bytes(data)
    return folder, ["predict", f"bad{suffix}", "pushing cup", "--steps", "1"], f"bad{suffix}: {what}"


def text(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """A strange text, and strange names of the given frames."""
    folder, said = stage.fresh("run"), HOSTILE[number % len(HOSTILE)]
    name = re.sub(r"[\0/]", "_", HOSTILE[(7 * number) % len(HOSTILE)])[:60].strip(".") or "plain"
    given = folder / (name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") + ".mp4")
    shutil.copy(folder / "given.mp4", given)
    return folder, ["predict", "--steps", "1", "--", f"./{given.name}", said], f"the text {said!r:.80}, the file {given.name!r}"


def eval_folders(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """Two folders of videos, one with a bad video."""
    folder = stage.fresh("run")
    (folder / "theirs").mkdir(), (folder / "truth").mkdir()
    suffix = (".mp4", ".gif", ".avi", ".webm")[number % 4]
    data, what = spoil_bytes(random, sample(stage, suffix))
    if number % 5 == 4:
        data, what, _ = CLAIMS[number // 5 % len(CLAIMS)]()
    for side in ("theirs", "truth"):
        (folder / side / "a.mp4").write_bytes(sample(stage, ".mp4"))
        (folder / side / f"b{suffix}").write_bytes(sample(stage, suffix))
    (folder / ("theirs", "truth")[number % 2] / f"b{suffix}").write_bytes(data)
    return folder, ["eval", "--pred", "theirs", "--real", "truth", "--given", "2"], f"b{suffix}: {what}"


def eval_run(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """A run or its data with one bad file."""
    folder = stage.fresh("run")
    run, data = folder / "runs" / "first", folder / "data" / "toy"
    checkpoint = run / "checkpoints" / "step-000004"
    path = [
        run / "config.json",
        data / "val" / "metadata.jsonl",
        checkpoint / "state.json",
        data / "dataset.json",
        data / "val" / "videos" / "clip1.mp4",
        checkpoint / "adapter.safetensors",
    ][number % 6]
    if path.suffix in (".mp4", ".safetensors"):
        spoilt, what = spoil_bytes(random, path.read_bytes())
    elif path.suffix == ".jsonl":
        lines = path.read_bytes().splitlines()
        lines[1], what = spoil_json(random, json.loads(lines[1]))
        spoilt = b"\n".join(lines)
    else:
        spoilt, what = spoil_json(random, json.loads(path.read_text()))
    path.write_bytes(spoilt)
    return folder, ["eval", "--limit", "2"], f"{path.relative_to(folder)}: {what}"


def adapter(stage: Stage, random: Random, number: int) -> tuple[Path, list[str], str]:
    """An adapter with one bad file."""
    folder = stage.fresh("run")
    checkpoint = folder / "runs" / "first" / "checkpoints" / "step-000004"
    weights, config = checkpoint / "adapter.safetensors", checkpoint / "adapter_config.json"
    if number % 2:
        spoilt, what = spoil_json(random, json.loads(config.read_text()))
        config.write_bytes(spoilt)
        return folder, ["adapter", str(stage.base), str(checkpoint)], f"adapter_config.json: {what}"
    data = weights.read_bytes()
    header = int.from_bytes(data[:8], "little")
    crafted = {
        0: (b"\xff" * 8 + data[8:], "a header of 2^64 - 1 bytes"),
        2: ((2**40).to_bytes(8, "little") + data[8:], "a header of 1 TiB"),
        4: (rewritten(data, lambda h: h.update(huge={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]})), "4 TiB"),
        6: (data[:8] + NESTED.encode()[: header - 2] + b"{}" + data[8 + header :], "a header nested too deep"),
        8: (rewritten(data, lambda h: h.update(x={"dtype": "F32", "shape": ["digits"], "data_offsets": [0, 4]})), "digits"),
        10: (rewritten(data, lambda h: h.update(dict.fromkeys(HOSTILE[:12], next(iter(h.values()))))), "hostile names"),
        12: (b"PK\x03\x04" + data, "a ZIP, as torch.save writes"),
    }
    spoilt, what = crafted[number] if number in crafted else spoil_bytes(random, data, head=header)
    weights.write_bytes(spoilt)
    return folder, ["adapter", str(stage.base), str(checkpoint)], f"adapter.safetensors: {what}"


def rewritten(data: bytes, change: Callable[[dict], None]) -> bytes:
    """A safetensors file with its header changed."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    new = json.dumps(header).replace('"digits"', DIGITS).encode()
    return len(new).to_bytes(8, "little") + new + data[8 + length :]


# ---------------------------------------------------------------- videos and pictures to spoil

_samples: dict[str, bytes] = {}


def sample(stage: Stage, suffix: str) -> bytes:
    """A small right video or picture of that kind."""
    if suffix not in _samples:
        import cv2
        from raw_videos import moving_square, write_video

        path = stage.root / "samples" / f"a{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".gif":
            from fcacli.prediction.video import write_gif

            write_gif(path, moving_square(), 12)
        elif suffix in (".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm"):
            assert cv2.imwrite(str(path), moving_square(1)[0])
        else:
            write_video(path, moving_square())
        _samples[suffix] = path.read_bytes()
    return _samples[suffix]


def claims_size(suffix: str, width: int, height: int) -> Callable[[], tuple[bytes, str, str]]:
    return lambda: (sized(_samples[suffix], (64, 48), (width, height)), f"{suffix} claims {width}x{height}", "66")


CLAIMS: list[Callable[[], tuple[bytes, str, str]]] = [
    claims_size(".mp4", 60_000, 60_000),
    claims_size(".avi", 60_000, 60_000),
    lambda: (sized(gif(64, 48, 3), (64, 48), (65_535, 65_535)), "a GIF that claims 65535x65535", "66"),
    lambda: (gif(4000, 4000, 40), "a small GIF of 40 frames of 4000x4000", "66"),
    lambda: (b"", "no bytes", "66"),
    lambda: (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "a play list", "66"),
    claims_size(".mp4", 0, 0),
    claims_size(".avi", 16_000, 16_000),
]

FAMILIES: dict[str, tuple[Family, int]] = {
    "ssv2-video": (ssv2_video, 40),
    "folder-video": (folder_video, 40),
    "ssv2-labels": (ssv2_labels, 25),
    "folder-rows": (folder_rows, 35),
    "image": (image, 36),
    "given-video": (given_video, 24),
    "text": (text, 23),
    "eval-folders": (eval_folders, 20),
    "eval-run": (eval_run, 30),
    "adapter": (adapter, 27),
}
CASES = [(name, number) for name, (_, count) in FAMILIES.items() for number in range(count)]
IN_SHORT = set(Random(SEED).sample(CASES, 75))
"""A quarter of them, by lot; the others with -m slow."""


def test_there_are_300():
    assert len(CASES) == 300


@pytest.mark.parametrize(
    ("family", "number"),
    [pytest.param(*case, id="{}-{:02}".format(*case), marks=() if case in IN_SHORT else pytest.mark.slow) for case in CASES],
)
def test_a_spoiled_input(stage, child, family, number):
    for suffix in (".mp4", ".avi"):
        sample(stage, suffix)
    folder, command, recipe = FAMILIES[family][0](stage, Random(f"{SEED} {family} {number}"), number)
    before = {path.name for path in stage.root.iterdir()} | {path.name for path in stage.root.parent.iterdir()}
    outcome = child.run(folder, command)
    recipe = f"seed {SEED}, {family} {number}: {recipe}\nfca {command!r:.300}\n{outcome}"
    check(outcome, recipe)
    after = {path.name for path in stage.root.iterdir()} | {path.name for path in stage.root.parent.iterdir()}
    assert after == before, f"written outside of its folder\n{recipe}"
    if command[0] == "prepare":
        whole = family != "ssv2-labels" and "csv" not in recipe  # where rows can be told apart, one bad row stops nothing
        assert outcome.code == 0 or not whole, recipe
        assert set(GOOD.values()) <= prepared(folder), f"a good clip is lost\n{recipe}"


def check(outcome: Watched, recipe: str) -> None:
    """What holds for whatever is put in."""
    assert not outcome.failure, recipe
    assert outcome.code in (0, 1, 2), recipe
    said = outcome.out + outcome.err
    for word in ("Traceback", "error: unexpected ", "out of memory"):
        assert word not in said, recipe
    assert not outcome.noise, f"a library writes to the terminal\n{recipe}"
    assert not CONTROL.search(said), f"a control character reaches the terminal\n{recipe}"
    assert (outcome.code == 0) == (outcome.err.count("error: ") == 0), f"one error for a failure, none for a success\n{recipe}"
    assert outcome.seconds < SECONDS, recipe
    assert outcome.memory < MEMORY, recipe


def prepared(folder: Path) -> set[str]:
    """Captions of the prepared clips whose file is there."""
    found = set()
    for path in folder.glob("data/*/*/metadata.jsonl"):
        for row in map(json.loads, path.read_text().splitlines()):
            if (path.parent / row["file_name"]).stat().st_size:
                found.add(row["text"])
    return found


def test_the_longest_caption_is_kept_whole(stage, child):
    folder = stage.fresh("folder")
    with (folder / "raw" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "train/11.mp4", "text": LONG}) + "\n")
    outcome = child.run(folder, ["prepare", "folder", "raw", "--workers", "1"])
    check(outcome, "a caption of 100 kB")
    assert LONG.strip() in prepared(folder)


def test_the_watch_sees_memory(stage, child):
    """The measure of MEMORY is not idle: a picture of 64 million pixels is seen."""
    folder = stage.fresh("run")
    (folder / "frames" / "1.png").write_bytes(png(8000, 8000, 8000))
    outcome = child.run(folder, ["predict", "frames", "pushing cup", "--steps", "1"])
    check(outcome, "8000x8000")
    assert outcome.memory > 300 << 20
