"""Small random bases of every kind that CogVideoX has."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small import KINDS, MakeBase

from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX


@pytest.fixture(scope="session")
def kind_folders(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> dict[str, Path]:
    return {kind: write_base(tmp_path_factory.mktemp("base") / kind, **fields) for kind, fields in KINDS.items()}


@pytest.fixture
def make_base(kind_folders: dict[str, Path]) -> MakeBase:
    """A fresh base of a kind; nothing of another test is attached to it."""

    def make(kind: str = "absolute", dtype: torch.dtype = torch.float32) -> CogVideoX:
        return load_base(resolve_base(str(kind_folders[kind])), dtype=dtype)

    return make
