"""What the figures of `fca benchmark` stand under: machine, date, version, commit."""

import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import fcacli


def circumstances(device: str) -> dict[str, str]:
    """Of what is computed here and now on "cpu" or "cuda"; kept in every row."""
    return {
        "hardware": _hardware(device),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "version": fcacli.__version__,
        "commit": _commit(),
    }


def _hardware(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name(0)
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def _commit() -> str:
    """Of the source this runs from, "+" behind it where files were changed; "" where that is no repository of its own."""
    root = Path(fcacli.__file__).parents[1]
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30)
        return done.stdout.strip() if done.returncode == 0 else ""

    with suppress(OSError, subprocess.TimeoutExpired):
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    return ""
