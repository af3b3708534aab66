"""How fast a run goes and when it is time to save or stop: measured, never computed with."""

import math
import time
from collections import deque
from collections.abc import Mapping

WINDOW = 20
"""Steps over which speed and shown loss are averaged."""
SHOWN = {"memory": "host_gb", "GPU": "device_gb", "disk left": "disk_gb"}
"""What the progress bar calls what a line of speed.jsonl holds."""


class Pace:
    """The clock of one session of a run."""

    def __init__(self, clips_per_step: int, checkpoint_seconds: float, max_seconds: float | None):
        self._clips_per_step = clips_per_step
        self._checkpoint_seconds = checkpoint_seconds
        self._max_seconds = max_seconds if max_seconds is not None else math.inf
        self._started = self._saved = self._resumed = time.monotonic()
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def resume(self) -> None:
        """Work that is no training step ends here; its time is not charged to the next step."""
        self._resumed = time.monotonic()

    def stepped(self, loss: float) -> dict[str, float]:
        """A step is done; returns what was measured of it."""
        now = time.monotonic()
        seconds, self._resumed = now - self._resumed, now
        self._recent.append((seconds, loss))
        return {"seconds": round(seconds, 4), "clips_per_s": round(self._clips_per_step / seconds, 3)}

    def shown(self, measured: Mapping[str, float]) -> dict[str, str]:
        """For the progress bar, which shows the time left itself: recent loss and speed; memory and disk as measured."""
        seconds = sum(seconds for seconds, _ in self._recent) / len(self._recent)
        loss = sum(loss for _, loss in self._recent) / len(self._recent)
        gigabytes = {name: f"{measured[key]:.1f} GB" for name, key in SHOWN.items() if key in measured}
        return {"loss": f"{loss:.4f}", "clips/s": f"{self._clips_per_step / seconds:.1f}", **gigabytes}

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old enough for the next."""
        return time.monotonic() - self._saved >= self._checkpoint_seconds

    def saved(self) -> None:
        """A checkpoint was written."""
        self._saved = time.monotonic()
        self.resume()

    def over(self) -> bool:
        """Whether the session's time is up."""
        return time.monotonic() - self._started >= self._max_seconds
