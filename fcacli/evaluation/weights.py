"""The pretrained networks that some metrics need: what each file is, where it comes from, where it lies, whether it is the one.

Looked for in this order, never over a network: the folder given, the one FCA_WEIGHTS names, this program's cache folder, then
torch's and the hub's caches. A file under its published name must have the checksum that a source states for it. Under a name
of the user's own (i3d.pt, clip/) any file will do: it is pinned on first use, so that it cannot change unseen between scores.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from fcacli.errors import FcaError
from fcacli.workspace import read_json, write_json

VARIABLE = "FCA_WEIGHTS"
PINS = "pins.json"
"""In the cache folder: name/file -> sha256 of what was used first."""
UNUSED = "unverified"
"""Said of a file that has no stated checksum and no pin yet."""
NOT_NEEDED = ("psnr", "ssim", "flickering")
"""Metrics that need no weights."""
BUNDLED = ("mini-fvd", "mini-kvd")
"""Metrics whose weights come with the package."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of one network."""

    name: str
    what: str
    metrics: tuple[str, ...]
    """The metrics that need them."""
    sha256: dict[str, str]
    """File name, the preferred one first -> checksum that a source states for it."""
    stated_by: str
    """Who states the checksum."""
    source: str
    """URL of the file, or of the page of a hub model."""
    size: int | None
    """Bytes of the preferred file."""
    licence: str
    hub_id: str = ""
    """Of a hub model; the weights are then a folder."""
    revision: str = ""
    """Of that hub model: the commit that `fca weights --fetch` takes."""

    @property
    def file(self) -> str:
        """The preferred file's name."""
        return next(iter(self.sha256))

    @property
    def repository(self) -> str:
        """The hub model's own name, without its owner's; "" for a file."""
        return self.hub_id.rpartition("/")[2]

    @property
    def hub_folder(self) -> str:
        """The hub model's folder in the hub's cache."""
        return f"models--{self.hub_id.replace('/', '--')}"

    @property
    def own_names(self) -> tuple[str, ...]:
        """What a user may call a file that need not be the published one."""
        return tuple(f"{self.name}{suffix}" for suffix in (".safetensors", ".pt", ".pth"))


CLIP_FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json", "vocab.json", "merges.txt")
"""Of a CLIP folder, beside its weights."""

_LISTED = (
    Weights(
        name="i3d",
        what="I3D, 400 classes of Kinetics, converted from TensorFlow",
        metrics=("fvd", "kvd", "kvd-seer"),
        sha256={"i3d_pretrained_400.pt": "55095f049e706479d48e221adcdb145b2b9dc930ba28b081ed72367ffaa32343"},
        stated_by="the Git LFS pointer of the repository that it is fetched from",
        source="https://huggingface.co/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/"
        "810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
        size=50_939_526,
        licence="kinetics-i3d: Apache-2.0; the conversion (VideoGPT): MIT",
    ),
    Weights(
        name="lpips-trunk",
        what="AlexNet trained on ImageNet (torchvision)",
        metrics=("lpips",),
        sha256={"alexnet-owt-7be5be79.pth": "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"},
        stated_by="its file name (first 8 digits), in full by projects that pin it",
        source="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        size=244_408_911,
        licence="torchvision: BSD-3-Clause; the pictures of ImageNet: research",
    ),
    Weights(
        name="lpips-linear",
        what="LPIPS 0.1, linear weights for AlexNet",
        metrics=("lpips",),
        sha256={"alex.pth": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"},
        stated_by="projects that pin it; its authors state none",
        source="https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
        "082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/alex.pth",
        size=6_009,
        licence="BSD-2-Clause",
    ),
    Weights(
        name="clip",
        what="CLIP ViT-B/32",
        metrics=("clip-text", "clip-init"),
        sha256={
            "model.safetensors": "99d28a652e6ec46629ab7047a0ac82c69b1fe11e0ce672c43af65d3a9a3fc05d",
            "pytorch_model.bin": "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
        },
        stated_by="the hub (its large-file record), and projects that pin it",
        source="https://huggingface.co/openai/clip-vit-base-patch32",
        size=605_157_884,
        licence="code MIT; model card: research",
        hub_id="openai/clip-vit-base-patch32",
        revision="b33cedfd0df4e43b8238760678fcc89e1a0d38b3",
    ),
    Weights(
        name="inception",
        what="Inception of TensorFlow's FID, 2015-12-05, converted (pytorch-fid)",
        metrics=("fid",),
        sha256={"pt_inception-2015-12-05-6726825d.pth": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"},
        stated_by="its file name (first 8 digits), in full by projects that pin it",
        source="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        size=95_628_359,
        licence="Apache-2.0",
    ),
)
WEIGHTS = {weights.name: weights for weights in _LISTED}


def weights_of(metric: str) -> tuple[str, ...]:
    """Names of the weights that a metric needs; none for those that need none or bring their own."""
    return tuple(weights.name for weights in _LISTED if metric in weights.metrics)


def cache_folder() -> Path:
    """Where this program keeps what it fetches, and its pins."""
    return _caches() / "fca" / "weights"


def find_weights(name: str, weights_dir: Path | None = None) -> Path | None:
    """Where the weights lie, a file or (of a hub model) a folder; None where they are nowhere.

    Raises:
        FcaError: `weights_dir`, or what FCA_WEIGHTS names, is not a folder.
    """
    weights = WEIGHTS[name]
    folders = [(weights_dir, "--weights-dir")] if weights_dir is not None else []
    if variable := os.environ.get(VARIABLE):
        folders.append((Path(variable), VARIABLE))
    for folder, said_by in folders:
        if not folder.is_dir():
            raise FcaError(f"{said_by} {folder} is not a folder", "fca weights says which files belong there")
    places = [folder for folder, _ in folders] + [cache_folder()]
    if not weights.hub_id:
        places.append(_torch_cache())
        files = [place / file for place in places for file in (*weights.own_names, *weights.sha256)]
        return next((file for file in files if file.is_file()), None)
    below = [place / part for place in places for part in (name, weights.repository)]
    return next((folder for folder in (*below, *_hub_snapshots(weights)) if not missing_of_clip(folder)), None)


def missing_of_clip(folder: Path) -> list[str]:
    """What a folder lacks of a whole CLIP: configuration, tokenizer and weights."""
    needed = (("config.json",), ("preprocessor_config.json",), ("tokenizer.json", "vocab.json"), tuple(WEIGHTS["clip"].sha256))
    return [" or ".join(files) for files in needed if not any((folder / file).is_file() for file in files)]


def weights_file(name: str, path: Path) -> Path:
    """The file with the numbers: of a hub model's folder the preferred one there, else `path` itself."""
    if not WEIGHTS[name].hub_id:
        return path
    return next((path / file for file in WEIGHTS[name].sha256 if (path / file).is_file()), path / WEIGHTS[name].file)


def check_weights(name: str, path: Path) -> str:
    """Compare a file with the checksums stated, or pin one of another name on its first use.

    Returns:
        "verified", "unverified, pinned", or "unverified, not pinned" where the cache folder cannot be written.

    Raises:
        FcaError: it cannot be read, or is another file than the one stated or used before.
    """
    digest, state = _compare(name, path)
    if state == UNUSED:
        try:
            write_json(cache_folder() / PINS, _pins() | {_pin(name, path): digest})
        except FcaError:
            return "unverified, not pinned"
        return "unverified, pinned"
    return state


def checksum_state(name: str, path: Path) -> str:
    """As `check_weights`, but it pins nothing: "unverified" for a file that has not been used yet."""
    return _compare(name, path)[1]


def _compare(name: str, path: Path) -> tuple[str, str]:
    """A file's sha256 and what is to be said of it."""
    weights, file = WEIGHTS[name], weights_file(name, path)
    digest = file_sha256(file)
    if digest in weights.sha256.values():
        return digest, "verified"
    names = {weights.repository, weights.hub_folder} if weights.hub_id else weights.sha256.keys()
    if names & ({*path.parts} if weights.hub_id else {file.name}):  # it claims to be the published one
        stated = weights.sha256.get(file.name, weights.sha256[weights.file])
        raise FcaError(
            f"{file} is not the {file.name} that {name} means: its sha256 begins {digest[:16]}, not {stated[:16]} "
            f"(stated by {weights.stated_by})",
            f"remove it and run fca weights --fetch {name}; to use it all the same, unverified, "
            f"name it {f'{name}/' if weights.hub_id else f'{name}{file.suffix}'} in a --weights-dir",
        )
    pinned = _pins().get(_pin(name, path))
    if pinned is None:
        return digest, UNUSED
    if digest != pinned:
        raise FcaError(
            f"{file} has changed since it was first used for {name}: its sha256 began {str(pinned)[:16]}, now {digest[:16]}",
            f"scores of the two do not compare; if the change is meant, remove its line from {cache_folder() / PINS}",
        )
    return digest, "unverified, pinned"


def file_sha256(path: Path) -> str:
    """Of a whole file.

    Raises:
        FcaError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error.strerror or error}", "fca weights") from None


def _pin(name: str, path: Path) -> str:
    return f"{name}/{weights_file(name, path).resolve()}"


def _pins() -> dict[str, str]:
    path = cache_folder() / PINS
    pins = read_json(path) if path.is_file() else {}
    if not isinstance(pins, dict):
        raise FcaError(f"{path} does not hold an object", "remove it: files are then pinned anew")
    return pins


def _torch_cache() -> Path:
    """Where torch.hub, and with it torchvision and pytorch-fid, keep downloads."""
    return Path(os.environ.get("TORCH_HOME") or _caches() / "torch").expanduser() / "hub" / "checkpoints"


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _hub_snapshots(weights: Weights) -> list[Path]:
    """Folders of a hub model in the hub's cache, the revision that is fetched first."""
    from huggingface_hub import constants

    found = sorted((Path(constants.HF_HUB_CACHE) / weights.hub_folder / "snapshots").glob("*"))
    return sorted(found, key=lambda snapshot: snapshot.name != weights.revision)
