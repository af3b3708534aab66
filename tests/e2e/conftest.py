"""The server, prepared data and the run that nothing disturbs."""

import shutil
from pathlib import Path

import pytest
from processes import Server
from raw_videos import write_ssv2

LABELS = {
    "train": [("1", "pushing cup left"), ("2", "lifting box"), ("3", "lifting cup"), ("4", "pushing box left"), ("5", "up")],
    "validation": [("7", "dropping box"), ("8", "dropping cup")],
}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("outputs"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    return write_ssv2(tmp_path_factory.mktemp("raw"), LABELS)


@pytest.fixture(scope="session")
def options(tiny_base_folder) -> list[str]:
    """Of a training of seconds: six steps, one validation at the end."""
    words = "--steps 6 --batch-size 2 --accumulate 2 --sample-steps 2 --validate-clips 1 --validate-every 0 --precision fp32"
    return ["--gpus", "0", "--base", str(tiny_base_folder), *words.split()]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, server, raw, tiny_base_folder) -> Path:
    """A workspace with encoded clips; copy it, do not write into it."""
    root = tmp_path_factory.mktemp("prepared")
    server.run(root, "prepare", "ssv2", raw, "--workers", 1, "--base", tiny_base_folder)
    return root


@pytest.fixture
def workspace(prepared, tmp_path) -> Path:
    shutil.copytree(prepared / "data", tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="session")
def straight(server, prepared, tmp_path_factory, options) -> Path:
    """A workspace with the run "first", finished without interruption; add to it, change nothing."""
    root = tmp_path_factory.mktemp("straight")
    shutil.copytree(prepared / "data", root / "data")
    server.run(root, "train", *options, "--run", "first")
    return root


@pytest.fixture
def trained(straight, workspace) -> Path:
    """A workspace of one's own with that run."""
    shutil.copytree(straight / "runs" / "first", workspace / "runs" / "first", ignore=shutil.ignore_patterns("eval"))
    return workspace
