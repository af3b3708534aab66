"""Real sample files, outside the repository: FCA_FIXTURES, or ../shared/fixtures beside the checkout."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("FCA_FIXTURES", Path(__file__).parents[2] / "shared" / "fixtures"))


def fixture(name: str) -> Path:
    """A file or folder of the real samples; the test is skipped where it is absent."""
    if not (ROOT / name).exists():
        pytest.skip(f"real sample {name} is not here (FCA_FIXTURES)")
    return ROOT / name
