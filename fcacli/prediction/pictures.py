"""Pictures people look at first: the contact sheet (time from left to right) and the side-by-side video.

Given frames stand in an accent-coloured outline. Frames are uint8 (T, H, W, 3); small ones are enlarged by whole factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

PAPER, INK, FAINT, LINE, ACCENT = (255, 255, 255), (31, 35, 40), (110, 119, 129), (222, 226, 230), (9, 105, 218)
CELL_SIDE, PANEL_SIDE = 96, 192
"""Pixels that the short side of a contact sheet's frame, and of a panel, comes to at most (about half that at least)."""
MAX_COLUMNS = 16
MARGIN, GAP, OUTLINE = 20, 4, 3
MOST_LINES = 3
"""Of a caption."""


@dataclass(frozen=True)
class Row:
    """One video under a name; its first `given` frames are marked."""

    label: str
    frames: np.ndarray
    given: int = 0


@dataclass(frozen=True)
class Group:
    """Videos of one clip under its caption."""

    title: str
    rows: Sequence[Row]


def contact_sheet(groups: Sequence[Group], title: str = "") -> np.ndarray:
    """Rows of frames under captions, at most MAX_COLUMNS frames spread over each video: uint8 (H, W, 3)."""
    from PIL import Image, ImageDraw

    rows = [row for group in groups for row in group.rows]
    columns = _columns(max(len(row.frames) for row in rows), max(row.given for row in rows))
    shown = {id(row): fit_frames(row.frames[[t for t in columns if t < len(row.frames)]], CELL_SIDE) for row in rows}
    cell_h, cell_w = (max(frames.shape[axis] for frames in shown.values()) for axis in (1, 2))
    small, text, large = _font(13), _font(15), _font(20)
    gutter = round(max(text.getlength(row.label) for row in rows)) + 16
    left, step = MARGIN + gutter, cell_w + GAP
    width = left + len(columns) * step - GAP + MARGIN
    captions = [_wrap(group.title, _font(16), width - 2 * MARGIN) for group in groups]
    head = MARGIN + (38 if title else 0) + 22
    height = head + sum(
        24 * len(lines) + 8 + len(g.rows) * (cell_h + GAP) + 22 for lines, g in zip(captions, groups, strict=True)
    )
    page = Image.new("RGB", (width, height + MARGIN - 22), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((MARGIN, MARGIN), title, INK, large)
    for column, t in enumerate(columns):
        draw.text((left + column * step + cell_w / 2, head - 16), str(t), FAINT, small, anchor="mt")
    if any(row.given for row in rows):
        _legend(draw, MARGIN, head - 16)
    y = head + 6
    for lines, group in zip(captions, groups, strict=True):
        for line in lines:
            draw.text((MARGIN, y), line, INK, _font(16))
            y += 24
        y += 2
        for row in group.rows:
            draw.text((left - 12, y + cell_h / 2), row.label, FAINT, text, anchor="rm")
            for column, (t, pixels) in enumerate(zip(columns, shown[id(row)], strict=False)):
                x = left + column * step
                page.paste(Image.fromarray(pixels), (x, y))
                if t < row.given:
                    _outline(draw, x, y, pixels.shape[1], pixels.shape[0])
            y += cell_h + GAP
        y += 22
    return np.asarray(page)


def side_by_side(panels: Sequence[Row], caption: str = "") -> np.ndarray:
    """Videos playing next to each other under their names, the caption below, and a time line: uint8 (T, H', W', 3).

    A panel with fewer frames than the longest rests on its last one; while it shows a given frame it is outlined.
    """
    from PIL import Image, ImageDraw

    length = max(len(panel.frames) for panel in panels)
    videos = [fit_frames(panel.frames, PANEL_SIDE) for panel in panels]
    cell_h, cell_w = (max(frames.shape[axis] for frames in videos) for axis in (1, 2))
    margin, gap = 16, 12
    width = 2 * margin + len(videos) * (cell_w + gap) - gap
    lines = _wrap(caption, _font(17), width - 2 * margin) if caption else []
    names = [_wrap(panel.label, _font(17), cell_w - (50 if panel.given else 0)) for panel in panels]
    top = margin + 4 + 22 * max(map(len, names))
    height = top + cell_h + 20 + 24 * len(lines) + margin
    frames = np.empty((length, height + height % 2, width + width % 2, 3), np.uint8)
    for t in range(length):
        page = Image.new("RGB", (frames.shape[2], frames.shape[1]), PAPER)
        draw = ImageDraw.Draw(page)
        for column, (panel, video, name) in enumerate(zip(panels, videos, names, strict=True)):
            x, now = margin + column * (cell_w + gap), min(t, len(video) - 1)
            given = now < panel.given
            for number, line in enumerate(name):
                draw.text((x, top - 26 - 22 * (len(name) - 1 - number)), line, INK, _font(17))
            page.paste(Image.fromarray(video[now]), (x, top))
            if given:
                draw.text((x + video.shape[2], top - 24), "given", ACCENT, _font(14), anchor="ra")
                _outline(draw, x, top, video.shape[2], video.shape[1])
            _time_line(draw, x, top + cell_h + 6, cell_w, t, length, panel.given)
        for number, line in enumerate(lines):
            draw.text((margin, top + cell_h + 20 + 24 * number), line, INK, _font(17))
        frames[t] = np.asarray(page)
    return frames


def grid(videos: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Videos (T, H, W, 3) of one length on one page, row by row."""
    height, width = (max(video.shape[axis] for video in videos) for axis in (1, 2))
    rows = -(-len(videos) // columns)
    page = np.full((len(videos[0]), rows * height, min(columns, len(videos)) * width, 3), PAPER, np.uint8)
    for number, video in enumerate(videos):
        top, left = number // columns * height, number % columns * width
        page[:, top : top + video.shape[1], left : left + video.shape[2]] = video
    return page


def fit_frames(frames: np.ndarray, side: int) -> np.ndarray:
    """Bring the short side near `side`: small frames by a whole factor, unblurred; large ones averaged down to it."""
    height, width = frames.shape[1:3]
    short = min(height, width)
    if short <= side:
        factor = side // short
        return frames.repeat(factor, axis=1).repeat(factor, axis=2)
    size = (round(width * side / short), round(height * side / short))
    return np.stack([cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) for pixels in frames])


def _columns(length: int, given: int) -> list[int]:
    """Frame numbers that a sheet shows: all, or the given ones and an even spread of the rest."""
    if length <= MAX_COLUMNS:
        return list(range(length))
    given = min(given, MAX_COLUMNS // 2)
    rest = np.linspace(given, length - 1, MAX_COLUMNS - given).round().astype(int)
    return [*range(given), *(int(t) for t in rest)]


def _outline(draw: "ImageDraw", x: int, y: int, width: int, height: int) -> None:
    draw.rectangle((x, y, x + width - 1, y + height - 1), outline=PAPER, width=OUTLINE + 1)
    draw.rectangle((x, y, x + width - 1, y + height - 1), outline=ACCENT, width=OUTLINE)


def _legend(draw: "ImageDraw", x: int, y: int) -> None:
    draw.rectangle((x, y, x + 10, y + 10), outline=ACCENT, width=2)
    draw.text((x + 16, y + 5), "given", FAINT, _font(13), anchor="lm")


def _time_line(draw: "ImageDraw", x: int, y: int, width: int, t: int, length: int, given: int) -> None:
    draw.rectangle((x, y, x + width - 1, y + 2), fill=LINE)
    draw.rectangle((x, y, x + max(1, round(width * (t + 1) / length)) - 1, y + 2), fill=FAINT)
    if given:
        draw.rectangle((x, y, x + max(1, round(width * min(given, t + 1) / length)) - 1, y + 2), fill=ACCENT)


def _font(size: int):  # type: ignore[no-untyped-def]  # Pillow names no common type for its fonts
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _wrap(text: str, font, width: int) -> list[str]:  # type: ignore[no-untyped-def]
    """Break a text into lines of at most `width` pixels; what goes beyond MOST_LINES is left out, with an ellipsis."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word[:width]}") <= width:
            lines[-1] += f" {word}"
        elif len(lines) == MOST_LINES:
            lines[-1] += " …"
            break
        else:
            lines.append(word[:width])  # no letter is narrower than a pixel
    return lines
