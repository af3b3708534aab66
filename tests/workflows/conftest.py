"""A prepared and encoded workspace for the tests of `fca train`."""

import shutil
from pathlib import Path

import pytest
from raw_videos import write_ssv2

from fcacli.workflows.train_options import TrainOptions
from fcacli.workspace import Workspace

LABELS = {
    "train": [("1", "pushing cup left"), ("2", "lifting box"), ("3", "lifting cup"), ("4", "pushing box left")],
    "validation": [("7", "dropping box"), ("8", "dropping cup")],
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Path:
    """A workspace with prepared and encoded clips; copy it, do not write into it."""
    from fcacli.workflows.encode.ahead import encode_ahead
    from fcacli.workflows.prepare import prepare

    root = tmp_path_factory.mktemp("workspace")
    result = prepare("ssv2", write_ssv2(root / "raw", LABELS), Workspace(root), workers=1)
    encode_ahead(result.folder, str(tiny_base_folder))
    return root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(prepared / "data", tmp_path / "data")
    return Workspace(tmp_path)


@pytest.fixture
def asked(tiny_base_folder: Path) -> TrainOptions:
    """A run of four steps with two validations."""
    return TrainOptions(
        base=str(tiny_base_folder), steps=4, batch_size=2, sample_steps=2, validate_clips=1, validate_every=2, precision="fp32"
    )
