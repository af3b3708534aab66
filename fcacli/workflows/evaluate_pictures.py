"""What an evaluation of a run leaves to look at: the contact sheet, comparison videos, and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fcacli.evaluation.scoring import Clips, Method
from fcacli.prediction.pictures import Group, Row, contact_sheet, side_by_side
from fcacli.prediction.video import write_gif, write_mp4, write_png
from fcacli.workspace import atomic_folder, slug

SHOWN, COMPARED = 6, 4
"""Clips on the contact sheet, and with a comparison video: the first ones, chosen before they are scored."""
OWN_FRAMES = "its own"
"""What `first_frames` says of a method that does not show the given ones."""


def write_pictures(folder: Path, methods: Sequence[Method], clips: Clips, fps: float) -> list[Path]:
    """contact_sheet.png of truth and every method, and given | prediction | truth of the first method, MP4 and GIF."""
    groups = []
    for name in clips.names[:SHOWN]:
        truth = clips.truth(name)
        rows = [Row(method.name, method.samples[0](name), _given_shown(method, clips.given)) for method in methods]
        groups.append(Group(clips.texts.get(name, name), [Row("truth", truth, clips.given), *rows]))
    write_png(folder / "contact_sheet.png", contact_sheet(groups, "held-out clips"))
    with atomic_folder(folder / "comparisons") as temporary:
        for number, name in enumerate(clips.names[:COMPARED], 1):
            truth, prediction, text = clips.truth(name), methods[0].samples[0](name), clips.texts.get(name, name)
            panels = [
                Row("given frames", truth[: clips.given], clips.given),
                Row("prediction", prediction, clips.given),
                Row("truth", truth, clips.given),
            ]
            video = side_by_side(panels, text)
            write_mp4(temporary / f"{number}-{slug(text)}.mp4", video, fps)
            write_gif(temporary / f"{number}-{slug(text)}.gif", video, fps)
    return [*sorted((folder / "comparisons").iterdir()), folder / "contact_sheet.png"]


def _given_shown(method: Method, given: int) -> int:
    """How many of a method's first frames are the given ones."""
    return 0 if method.about.get("first_frames") == OWN_FRAMES else given


def write_report(
    path: Path, results: dict[str, Any], methods: Sequence[Method], clips: Clips, fps: float, training: Sequence[dict] = ()
) -> None:
    """The page of an evaluation; as its clips are read again one by one, memory does not grow with their number."""
    from fcacli.evaluation.page import PageClip, clips_to_show, write_page

    def clip(name: str) -> PageClip:
        number = results["names"].index(name)
        scores = {
            row["name"]: {metric: values["per_clip"][number] for metric, values in row["metrics"].items() if values["per_clip"]}
            for row in results["rows"]
        }
        videos = {"truth": clips.truth(name), **{method.name: method.samples[0](name) for method in methods}}
        return PageClip(name=name, text=clips.texts.get(name, ""), videos=videos, scores=scores)

    write_page(path, results, map(clip, clips_to_show(results)), given=clips.given, fps=fps, training=training)
