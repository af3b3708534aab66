"""Small random bases of each kind that CogVideoX has, and the helpers of counted.py."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from kinds import KINDS, WIDE


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> Callable[[str], Path]:
    """The folder of a base of that kind."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_base(tmp_path_factory.mktemp("base") / kind, **(WIDE | KINDS[kind]))
        return made[kind]

    return folder
