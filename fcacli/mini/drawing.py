"""Vector drawing of a scene and its motion, at any picture size.

Shapes are drawn in world units (48 to a side) on a canvas a whole multiple of the picture's size, then averaged down.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from fcacli.mini.scene import COLOURS, LENS, SHAKE, SIDE, Paths, Scene, Thing

TABLES = {"base": ("wood", "linen", "stone", "paper"), "adapt": ("tiles", "stripes", "marble")}
_SHIFT = 4  # binary digits behind the point in cv2's coordinates
_HANDS = {  # skin, its outline, cuff
    "bare": ((236, 194, 168), (204, 158, 134), (138, 146, 162)),
    "glove": ((96, 100, 110), (66, 68, 76), (206, 206, 200)),
}
_CLOTHS = {"bare": ((236, 236, 232), (198, 204, 214)), "glove": ((122, 118, 114), (98, 96, 94))}
Colour = tuple[int, int, int]


def render(scene: Scene, paths: Paths, size: int = 48) -> np.ndarray:
    """Draw all frames: uint8 (T, size, size, 3), RGB."""
    over = 3 if size < 160 else 2
    table = _table(scene.table, scene.table_seed, size * over)
    shade = (table * 0.68).astype(np.uint8)
    frames = np.empty((len(paths.hand), size, size, 3), np.uint8)
    shifts = camera(scene, len(frames)) * (size * over / SIDE)
    for t in range(len(frames)):
        canvas = _Canvas(table.copy(), size * over / SIDE)
        _draw_shadows(canvas, shade, scene, paths.things[t])
        order = np.argsort(paths.things[t, :, 1], kind="stable")
        for i in order:
            _draw_thing(canvas, scene.things[i], paths.things[t, i])
        if paths.cloth is not None and scene.cloth is not None:
            _draw_cloth(canvas, paths.cloth[t], scene.cloth.size / 2, scene.hand_style)
        _draw_hand(canvas, paths.hand[t], scene.hand_style)
        shift = np.array([[1.0, 0.0, shifts[t, 0]], [0.0, 1.0, shifts[t, 1]]])
        seen = cv2.warpAffine(canvas.pixels, shift, (size * over, size * over), borderMode=cv2.BORDER_REPLICATE)
        frames[t] = cv2.resize(_through_lens(seen, over * size / SIDE), (size, size), interpolation=cv2.INTER_AREA)
    return frames


def thing_stamp(kind: str, colour: str, size: float, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """A thing drawn alone, `scale` pixels to a world unit: colour (k, k, 3) and opacity (k, k), floats, k odd."""
    return _stamp(
        size, scale, lambda canvas: _draw_thing(canvas, Thing(kind=kind, colour=colour, x=0, y=0, size=size), _MIDDLE)
    )


def cloth_stamp(size: float, style: str, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """A cloth, likewise."""
    return _stamp(size, scale, lambda canvas: _draw_cloth(canvas, _MIDDLE[:2], size / 2, style))


def _stamp(size: float, scale: int, draw: Callable[[_Canvas], None]) -> tuple[np.ndarray, np.ndarray]:
    """Drawn on white and on black: what differs is not covered."""
    over, k = 4, 2 * int((0.62 * size + 2 * LENS) * scale) + 1
    on: list[np.ndarray] = []
    for ground in (0, 255):
        canvas = _Canvas(np.full((k * over, k * over, 3), ground, np.uint8), scale * over)
        middle = k / scale / 2
        canvas.offset = np.array([middle, middle])
        draw(canvas)
        on.append(
            cv2.resize(_through_lens(canvas.pixels, scale * over), (k, k), interpolation=cv2.INTER_AREA).astype(np.float64)
        )
    opacity = 1.0 - (on[1] - on[0]).mean(-1) / 255.0
    return on[0] / np.maximum(opacity, 1e-3)[..., None], opacity


_MIDDLE = np.zeros(4)


def _through_lens(picture: np.ndarray, scale: float) -> np.ndarray:
    """Blurred as by a lens; `scale` pixels to a world unit."""
    return cv2.GaussianBlur(picture, (0, 0), LENS * scale)


def camera(scene: Scene, frames: int) -> np.ndarray:
    """Where the camera's slight movement puts the picture's origin, in world units: (T, 2), within SHAKE."""
    rng = np.random.default_rng([scene.camera_seed, 11])
    speed, phase = rng.uniform(0.2, 0.9, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
    size = SHAKE * rng.uniform() / 2
    return size * np.sin(np.arange(frames)[:, None, None] * speed + phase).sum(1)


class _Canvas:
    """A picture drawn on in world units, with an optional local frame (origin, angle)."""

    def __init__(self, pixels: np.ndarray, scale: float) -> None:
        self.pixels, self.scale, self.offset = pixels, scale, np.zeros(2)
        self.place(0.0, 0.0, 0.0)

    def place(self, x: float, y: float, angle: float) -> None:
        """Draw from here on relative to (x, y), turned by `angle` degrees."""
        self.origin = np.array([x, y])
        c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        self.turn, self.angle = np.array([[c, s], [-s, c]]), angle

    def points(self, points: object) -> np.ndarray:
        """Local (k, 2) -> cv2's fixed-point pixel coordinates."""
        world = np.asarray(points, float) @ self.turn + self.origin + self.offset
        return np.rint((world * self.scale - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: object, colour: Colour) -> None:
        """Filled polygon."""
        cv2.fillPoly(self.pixels, [self.points(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: object, colour: Colour, width: float) -> None:
        """Open stroke with round ends."""
        width_px = max(1, round(width * self.scale))
        cv2.polylines(self.pixels, [self.points(points)], False, colour, width_px, cv2.LINE_AA, _SHIFT)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Filled ellipse."""
        k = self.scale * (1 << _SHIFT)
        centre = tuple(int(v) for v in self.points([[x, y]])[0])
        axes = (round(rx * k), round(ry * k))
        cv2.ellipse(self.pixels, centre, axes, self.angle, 0, 360, colour, -1, cv2.LINE_AA, _SHIFT)


def _mix(colour: Colour, towards: Colour, share: float) -> Colour:
    return tuple(round(a + (b - a) * share) for a, b in zip(colour, towards, strict=True))  # type: ignore[return-value]


def _draw_shadows(canvas: _Canvas, shade: np.ndarray, scene: Scene, state: np.ndarray) -> None:
    """Darken the table under every thing; the shadow stays on the table and shrinks as the thing rises."""
    mask = _Canvas(np.zeros(shade.shape[:2], np.uint8), canvas.scale)
    for thing, (x, y, height, _) in zip(scene.things, state, strict=True):
        r = thing.size / 2
        shrink = 1.0 - min(height, 20.0) / 60.0
        mask.ellipse(x + 0.8, y + 0.8 * r, 0.98 * r * shrink, 0.42 * r * shrink, 255)  # type: ignore[arg-type]
    cv2.copyTo(shade, mask.pixels, canvas.pixels)


def _draw_thing(canvas: _Canvas, thing: Thing, state: np.ndarray) -> None:
    x, y, height, angle = state
    canvas.place(x, y - height, angle)
    colour = COLOURS[thing.colour]
    dark, light = _mix(colour, (0, 0, 0), 0.32), _mix(colour, (255, 255, 255), 0.5)
    _SHAPES[thing.kind](canvas, thing.size / 2, colour, dark, light)
    canvas.place(0.0, 0.0, 0.0)


WHITE: Colour = (246, 246, 242)


def _ball(canvas: _Canvas, r: float, colour: Colour, dark: Colour, light: Colour) -> None:
    """Round, with a white stripe."""
    canvas.ellipse(0, 0, r, r, dark)
    canvas.ellipse(-0.06 * r, -0.08 * r, 0.88 * r, 0.86 * r, colour)
    turn = np.linspace(-0.36, 0.36, 7)
    rim = np.concatenate([np.stack([np.sin(turn), -np.cos(turn)], 1), np.stack([np.sin(turn[::-1]), np.cos(turn)], 1)])
    canvas.polygon(rim * r, WHITE)


def _box(canvas: _Canvas, r: float, colour: Colour, dark: Colour, light: Colour) -> None:
    """Wide and low, with a light lid."""

    def rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) * r

    canvas.polygon(rect(-1.1, -0.62, 1.1, 0.78), dark)
    canvas.polygon(rect(-0.98, 0.0, 0.98, 0.68), colour)
    canvas.polygon(rect(-0.98, -0.52, 0.98, -0.1), light)


def _cup(canvas: _Canvas, r: float, colour: Colour, dark: Colour, light: Colour) -> None:
    """White inside, with a handle on the right."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
    handle = np.stack([0.56 + 0.42 * np.cos(turn), 0.22 + 0.4 * np.sin(turn)], 1) * r
    canvas.line(handle, dark, 0.3 * r)
    canvas.polygon(np.array([[-0.94, -0.6], [0.7, -0.6], [0.5, 0.96], [-0.74, 0.96]]) * r, dark)
    canvas.polygon(np.array([[-0.8, -0.5], [0.56, -0.5], [0.4, 0.84], [-0.64, 0.84]]) * r, colour)
    canvas.ellipse(-0.12 * r, -0.6 * r, 0.82 * r, 0.36 * r, dark)
    canvas.ellipse(-0.12 * r, -0.6 * r, 0.7 * r, 0.27 * r, WHITE)


def _bottle(canvas: _Canvas, r: float, colour: Colour, dark: Colour, light: Colour) -> None:
    """Tall and narrow, with a white cap."""
    body = np.array([[-0.56, 1.0], [-0.56, -0.1], [-0.24, -0.46], [-0.24, -0.8], [0.24, -0.8], [0.24, -0.46]])
    body = np.concatenate([body, [[0.56, -0.1], [0.56, 1.0]]]) * r
    canvas.polygon(body, dark)
    canvas.polygon(body * [0.78, 0.88] + [0, 0.04 * r], colour)
    canvas.polygon(np.array([[-0.34, -1.1], [0.34, -1.1], [0.34, -0.7], [-0.34, -0.7]]) * r, WHITE)


def _star(canvas: _Canvas, r: float, colour: Colour, dark: Colour, light: Colour) -> None:
    turn = np.deg2rad(np.arange(10) * 36.0 - 90.0)
    radius = np.where(np.arange(10) % 2 == 0, 1.12, 0.56)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1) * r
    canvas.polygon(points, dark)
    canvas.polygon(points * 0.76, colour)
    canvas.ellipse(0, -0.08 * r, 0.2 * r, 0.2 * r, light)


_SHAPES = {"ball": _ball, "box": _box, "cup": _cup, "bottle": _bottle, "star": _star}


def _draw_cloth(canvas: _Canvas, centre: np.ndarray, r: float, style: str) -> None:
    cloth, stripe = _CLOTHS[style]
    canvas.place(float(centre[0]), float(centre[1]), 0.0)
    hem = [(x, 0.98 + 0.1 * (-1) ** i) for i, x in enumerate(np.linspace(1.0, -1.0, 7))]
    outline = np.array([(-0.62, -0.92), (0.62, -0.92), *hem]) * r
    canvas.polygon(outline, stripe)
    canvas.polygon(outline * 0.88, cloth)
    for x in (-0.34, 0.34):
        canvas.line(np.array([[0.7 * x, -0.8], [1.2 * x, 0.84]]) * r, stripe, 0.2 * r)
    canvas.line(np.array([[-0.7, -0.1], [0.7, -0.1]]) * r, stripe, 0.2 * r)
    canvas.place(0.0, 0.0, 0.0)


def _draw_hand(canvas: _Canvas, pose: np.ndarray, style: str) -> None:
    """A hand whose fingertips touch the pose's point: fingers along +x, palm and cuff behind."""
    skin, outline, cuff = _HANDS[style]
    canvas.place(*(float(v) for v in pose))
    reach = (-0.7, 0.0, -0.9) if style == "bare" else (-0.5, -0.2, -0.5)
    for colour, grow in ((outline, 0.5), (skin, 0.0)):
        for y, tip in zip((-1.7, 0.0, 1.7), reach, strict=True):
            width = 1.5 if style == "bare" else 2.2
            canvas.line([[-4.6, y], [tip - 0.8, 0.8 * y]], colour, width + 2 * grow)
        canvas.line([[-5.6, 2.0], [-2.9, 3.8]], colour, 1.5 + 2 * grow)
        canvas.ellipse(-5.4, 0, 2.6 + grow, 2.7 + grow, colour)
    canvas.polygon([[-7.2, -2.3], [-7.2, 2.3], [-11.0, 2.8], [-11.0, -2.8]], _mix(cuff, (0, 0, 0), 0.2))
    canvas.polygon([[-7.6, -1.8], [-7.6, 1.8], [-10.6, 2.3], [-10.6, -2.3]], cuff)
    canvas.place(0.0, 0.0, 0.0)


def _table(family: str, seed: int, size: int) -> np.ndarray:
    """The table's texture: uint8 (size, size, 3), low in saturation, the same picture at every size."""
    rng = np.random.default_rng([seed, 7])
    axis = (np.arange(size) + 0.5) * (SIDE / size)
    x, y = np.meshgrid(axis, axis)
    tone, phase = rng.uniform(158, 208), rng.uniform(0, 2 * np.pi, 4)
    clouds = cv2.resize(rng.standard_normal((7, 7)), (size, size), interpolation=cv2.INTER_CUBIC)
    tint = np.array([1.0, 0.985, 0.965])
    if family == "wood":
        bend = y + 1.2 * np.sin(x / 9 + phase[0])
        grey, tint = 7 * np.sin(bend * 0.9 + phase[1]) + 4 * np.sin(bend * 1.7 + phase[2]), np.array([1.0, 0.93, 0.83])
    elif family == "linen":
        grey = 5 * np.sin(x * 1.2 + phase[0]) + 5 * np.sin(y * 1.2 + phase[1])
    elif family == "stone":
        fine = cv2.resize(rng.standard_normal((17, 17)), (size, size), interpolation=cv2.INTER_CUBIC)
        grey, tint = 5 * fine, np.array([0.96, 0.98, 1.0])
    elif family == "paper":
        grey = (x - 24) * rng.uniform(-0.5, 0.5) + (y - 24) * rng.uniform(-0.5, 0.5)
    elif family == "tiles":
        side = rng.uniform(9, 13)
        odd = (np.floor((x + phase[0] * 3) / side) + np.floor((y + phase[1] * 3) / side)) % 2
        grey, tint = 22 * odd - 11, np.array([0.95, 1.0, 0.98])
    elif family == "stripes":
        wave = np.sin((x + y * rng.choice([-1, 1])) * rng.uniform(0.5, 0.8) + phase[0])
        grey, tint = 12 * np.clip(3 * wave, -1, 1), np.array([1.0, 0.97, 0.97])
    elif family == "marble":
        vein = np.sin(x * 0.25 + y * 0.18 + 2.2 * clouds + phase[0])
        grey, tint = 10 - 34 * np.exp(-((vein * 5) ** 2)), np.array([0.97, 0.98, 1.0])
    else:
        raise ValueError(f"unknown table {family!r}")
    grey = tone + grey + 3 * clouds - 0.006 * ((x - 24) ** 2 + (y - 24) ** 2)
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8)
