"""Model files: where a hub id or folder lies on this machine, and a fingerprint of what is in it."""

from __future__ import annotations

import hashlib
import json
import struct
from functools import cache
from pathlib import Path

from fcacli.errors import FcaError
from fcacli.workspace import read_json

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
PIPELINE_FILES = ("model_index.json", *(f"{part}/*" for part in PARTS))
PIPELINE_NEEDS = (
    *("model_index.json", "tokenizer/*", "scheduler/*"),
    *(f"{part}/{file}" for part in ("transformer", "vae", "text_encoder") for file in ("config.json", "*.safetensors")),
)
ENCODER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_WHOLE = 64 * 2**20
_SAMPLE = 4 * 2**20


@cache
def local_folder(source: str, files: tuple[str, ...]) -> Path:
    """The folder of a model: `source` itself, or the hub cache's copy; the hub is asked only where that is not complete.

    Raises:
        FcaError: the hub model is not on this machine and cannot be fetched.
    """
    if Path(source).is_dir():
        return Path(source)
    import huggingface_hub

    if (folder := in_cache(source, PIPELINE_NEEDS if files == PIPELINE_FILES else files)) is not None:
        return folder
    ignored = ["*.bin", "*.msgpack", "*.h5"]
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=list(files), ignore_patterns=ignored))
    except Exception as error:
        raise _unreachable(source, error) from error


def fetch_file(hub_id: str, file: str) -> Path:
    """One file of a hub model, from the cache or downloaded.

    Raises:
        FcaError: it is neither here nor reachable.
    """
    import huggingface_hub

    try:  # snapshot_download, as hf_hub_download retries for half a minute where there is no network
        path = Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=[file])) / file
    except Exception as error:
        raise _unreachable(hub_id, error) from error
    if not path.is_file():
        raise FcaError(f"{hub_id} has no {file}: it is not a pipeline in diffusers layout", "fca train --base cogvideox-2b")
    return path


def in_cache(hub_id: str, needs: tuple[str, ...]) -> Path | None:
    """Where the hub's local cache holds a model, with a file for each pattern and every shard; the network is not asked."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(hub_id, local_files_only=True))
        indices = folder.glob("*/*.safetensors.index.json")
        shards = [index.parent / name for index in indices for name in read_json(index)["weight_map"].values()]
    except Exception:
        return None
    there = all(any(folder.glob(pattern)) for pattern in needs) and all(shard.is_file() for shard in shards)
    return folder if there else None


def _unreachable(hub_id: str, error: Exception) -> FcaError:
    cause = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return FcaError(
        f"cannot fetch {hub_id} from the Hugging Face hub: {cause}",
        f"on a connected machine run `hf download {hub_id} --local-dir FOLDER`, copy FOLDER here and pass --base FOLDER "
        "(fca eval: --i2v FOLDER)",
    )


def fingerprint(folder: Path, parts: tuple[str, ...] = PARTS) -> str:
    """A short hash of a model's configuration and weight files, equal wherever the same files lie.

    Of files over 64 MiB it reads the safetensors header, the first and last 4 MiB and the size.
    """
    total = hashlib.sha256()
    for part in parts:
        for path in sorted((folder / part).glob("*")):
            if path.suffix in (".json", ".safetensors", ".model", ".txt"):
                total.update(f"{part}/{path.name}\0{_file_hash(path)}\n".encode())
    return total.hexdigest()[:16]


def _file_hash(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
        else:
            (header,) = struct.unpack("<Q", file.read(8))
            digest.update(json.dumps(header).encode() + file.read(min(header, _WHOLE)) + file.read(_SAMPLE))
            file.seek(-_SAMPLE, 2)
            digest.update(file.read())
    return digest.hexdigest()
