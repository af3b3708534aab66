"""Small datasets as users download them: the synthetic twins of the real samples, written without the readers' code."""

import csv
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from raw_videos import moving_square, write_video

from fcacli.data.decode import Track
from fcacli.data.readers import ReaderOptions, read


def found(reader, root, **options):
    """The records of a reader and its notes."""
    notes = []
    return list(read(reader, root, notes.append, ReaderOptions(**options))), notes


def decoded(record):
    """Frames (T, H, W, 3), times and problem of a record's source."""
    track = Track()
    frames = list(record.source.frames(track))
    return np.stack(frames), track.times, track.problem


def facts(record):
    """Id, prompt, split, frames and problem."""
    frames, _, problem = decoded(record)
    return record.id, record.text, record.split, len(frames), problem


def jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_pictures(folder, video, pattern, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(video, first):
        (folder / pattern.format(number)).write_bytes(jpeg(picture))
    return folder


def write_tar(path, members, mode="w"):
    """`members`: (name, bytes), or a TarInfo as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            data = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            if not isinstance(member, tarfile.TarInfo):
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def webm(folder, id):
    """The bytes of a clip of Something-Something: 18 frames, 64x48, 12 a second."""
    return write_video(folder / f"{id}.webm", moving_square(seed=sum(map(ord, id)))).read_bytes()


def write_trajectory(folder, frames=20, lang=None, cameras=1, seed=0):
    """A trajectory of Bridge's raw tree."""
    for camera in range(cameras):
        write_pictures(folder / f"images{camera}", moving_square(frames, seed=seed + camera), "im_{}.jpg")
    (folder / "depth_images0").mkdir()
    (folder / "obs_dict.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    if lang is not None:
        (folder / "lang.txt").write_text(lang)
    return folder


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def example(features):
    """tf.train.Example: lists of bytes, of ints or of floats."""
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            feature = message(1, b"".join(message(1, value) for value in values))
        elif isinstance(values[0], float):
            feature = message(2, message(1, struct.pack(f"<{len(values)}f", *values)))
        else:
            feature = message(3, message(1, b"".join(varint(value) for value in values)))
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it; masked as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * ((crc ^ byte >> bit) & 1))
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def write_tfrecord(path, messages):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for data in messages:
            length = struct.pack("<Q", len(data))
            file.write(length + struct.pack("<I", crc32c(length)) + data + struct.pack("<I", 0))
    return path


def episode(text, frames=10, black=False, seed=0):
    """An episode of Bridge in RLDS; `black`: the second camera was absent."""
    video = moving_square(frames, seed=seed)
    return example(
        {
            "steps/observation/image_0": [jpeg(picture) for picture in video],
            "steps/observation/image_1": [jpeg(picture * (not black)) for picture in video],
            "steps/language_instruction": [text.encode()] * frames,
            "steps/action": [0.5] * 7 * frames,
            "episode_metadata/has_image_0": [0],
            "steps/is_last": [0] * frames,
        }
    )


EPIC_100 = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration,"
    "verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
EPIC_55 = (
    "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,noun,"
    "noun_class,all_nouns,all_noun_classes"
)


def write_epic_table(path, rows, columns=EPIC_100):
    """`rows`: (name, video, narration, start and stop in seconds, first and last frame)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns.split(","), restval="x")
        table.writeheader()
        for name, video, text, start, stop, first, last in rows:
            stamps = [f"00:{int(time // 60):02}:{time % 60:05.2f}" for time in (start, stop)]
            id = {"narration_id": name} if columns == EPIC_100 else {"uid": name}
            table.writerow(
                {**id, "video_id": video, "narration": text, "start_timestamp": stamps[0], "stop_timestamp": stamps[1]}
                | {"start_frame": first, "stop_frame": last, "all_nouns": "['a', 'b']"}
            )
    return path


def write_lerobot_info(root, version, cameras, fps=10, codec="h264", shape=(48, 64, 3), **more):
    video = {"dtype": "video", "shape": list(shape), "info": {"video.codec": codec, "video.fps": fps}}
    features = {"action": {"dtype": "float32", "shape": [7]}, **{key: video for key in cameras}}
    (root / "meta").mkdir(parents=True)
    info = {"codebase_version": version, "fps": fps, "chunks_size": 1000, "features": features, **more}
    (root / "meta" / "info.json").write_text(json.dumps(info))


def write_lerobot_2(root, episodes, key="observation.images.top", version="v2.1", **info):
    """`episodes`: (tasks, declared length, frames in the video; 0 for no video)."""
    write_lerobot_info(root, version, info.pop("cameras", [key]), **info)
    rows = [{"episode_index": n, "tasks": tasks, "length": length} for n, (tasks, length, _) in enumerate(episodes)]
    (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, (_, _, frames) in enumerate(episodes):
        if frames:
            path = root / "videos" / "chunk-000" / key / f"episode_{number:06}.mp4"
            write_video(path, moving_square(frames, seed=number), fps=10)
    return root


def write_lerobot_3(root, lengths, missing=0, key="observation.images.top", fps=10, **info):
    """Episodes of these lengths in one file, each another picture; `missing` frames at the file's end.

    As in real sets, to_timestamp is one frame short.
    """
    import pyarrow
    from pyarrow import parquet

    write_lerobot_info(root, "v3.0", info.pop("cameras", [key]), fps=fps, **info)
    rows, start = [], 0
    for number, length in enumerate(lengths):
        row = {"episode_index": number, "tasks": [f"lift box {number}"], "length": length}
        row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": 0}
        row |= {f"videos/{key}/from_timestamp": start / fps, f"videos/{key}/to_timestamp": (start + length - 1) / fps}
        rows.append(row)
        start += length
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    video = np.concatenate([np.full((length, 48, 64, 3), 40 + 30 * number, np.uint8) for number, length in enumerate(lengths)])
    video[np.arange(len(video)), :4] = (np.arange(len(video)) % 200)[:, None, None, None]  # tells the frame's number
    write_video(root / "videos" / key / "chunk-000" / "file-000.mp4", video[: len(video) - missing], fps=fps)
    return root


def write_avi(path: Path, frames: np.ndarray, fps: int = 25):
    """MPEG-4 in AVI, as UCF-101 has it."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path
