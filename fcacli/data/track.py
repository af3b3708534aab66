"""What a pass over a source's frames tells besides the pixels: when they are shown, and what is wrong."""

from dataclasses import dataclass, field

FALLBACK_FPS = 12.0
"""Rate of a folder of pictures, and of a video that has neither time stamps nor a rate."""


@dataclass
class Track:
    """What a pass over the frames finds out besides the pixels; complete when the frames are used up."""

    stamps: list[float | None] = field(default_factory=list)
    """Presentation times as the file has them."""
    rate: float = FALLBACK_FPS
    """Frames per second by the header."""
    problem: str = ""
    """Why frames are missing or damaged; "" if none are."""
    rotated: bool = False
    """Whether a rotation or mirror that the file asks for was applied."""
    promised: int = 0
    """Frames by the header of a whole video file; 0 where it does not say it."""

    @property
    def times(self) -> list[float]:
        """Presentation times in seconds, never falling. Decoders put frames out in order of presentation; where the
        stamps disagree (MPEG-4 in AVI) they belong to the wrong frames, so the stamps are sorted, not the frames."""
        stamps = [stamp for stamp in self.stamps if stamp is not None]
        if len(stamps) < len(self.stamps):
            return [index / self.rate for index in range(len(self.stamps))]
        return sorted(stamps)

    def stamp(self, index: int) -> float:
        """Presentation time of one frame so far, as the file has it or from the rate."""
        stamp = self.stamps[index]
        return range(len(self.stamps))[index] / self.rate if stamp is None else stamp
