"""What a preparation found: totals, histograms, peculiarities and the clips left out, as one JSON document and in words."""

from collections.abc import Iterator
from typing import Any

from fcacli.data.manifest import SPLITS
from fcacli.data.plan import Plan

EXAMPLES = 20
"""Clips named of each peculiarity."""
BARS = 24
"""Most bars of a histogram."""
PECULIAR = {
    "variable frame rate": "uneven",
    "rotated upright": "rotated",
    "frame count other than the header or the raw data says": "promised > 0 and promised != frames",
}
"""Of clips that are used all the same, by a condition on the plan's columns."""
LENGTHS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2500, 5000)
"""Widths that a bar of the histogram of lengths may have, frames."""


def audit(plan: Plan) -> dict[str, Any]:
    """The JSON document, but for the name of the dataset and what the whole job needs."""
    usable = "content not null"
    one = plan.sql.execute(
        f"select sum(frames), sum(seconds), count(distinct text), sum(size) from clip where {usable}"
    ).fetchone()
    return {
        "clips": len(plan),
        "usable": {split: plan.count(f"{usable} and split = '{split}'") for split in SPLITS},
        "left_out": dict(
            plan.sql.execute("select fault, count(*) from clip where fault not null group by fault order by fault")
        ),
        "frames": one[0] or 0,
        "seconds": round(one[1] or 0.0, 3),
        "captions": one[2],
        "bytes": one[3],
        "histograms": {
            "frames": _lengths(plan),
            "size": _most(plan, "width || 'x' || height"),
            "frames per second": _most(plan, "printf('%g', fps)"),
        },
        "peculiar": {name: _named(plan, f"{usable} and ({condition})") for name, condition in PECULIAR.items()},
        "duplicates": _duplicates(plan),
        "excluded": [vars(skipped) for skipped in plan.skipped()],
    }


def _named(plan: Plan, condition: str) -> dict[str, Any]:
    rows = plan.sql.execute(f"select label from clip where {condition} order by position limit {EXAMPLES}")
    return {"clips": plan.count(condition), "examples": [label for (label,) in rows]}


def _lengths(plan: Plan) -> list[list[Any]]:
    """[from, to, clips] of each bar, frames of the sources."""
    least, most = plan.sql.execute("select min(frames), max(frames) from clip where content not null").fetchone()
    if least is None:
        return []
    step = next((width for width in LENGTHS if most // width - least // width < BARS), LENGTHS[-1])
    query = f"select frames / {step}, count(*) from clip where content not null group by 1"
    counts = dict(plan.sql.execute(query))
    bars = range(least // step, most // step + 1)
    return [[bar * step, bar * step + step - 1, counts.get(bar, 0)] for bar in bars]


def _most(plan: Plan, value: str) -> list[list[Any]]:
    """[value, clips], the most frequent first; what does not fit is "others"."""
    query = f"select {value}, count(*) from clip where content not null group by 1 order by 2 desc, 1"
    rows = [list(row) for row in plan.sql.execute(query)]
    if len(rows) > BARS:
        rows = [*rows[: BARS - 1], ["others", sum(count for _, count in rows[BARS - 1 :])]]
    return rows


def _duplicates(plan: Plan) -> dict[str, Any]:
    """Contents that several clips of the same split have; they are used, and named."""
    groups = "from clip where content not null group by content, split having count(*) > 1"
    count, clips = plan.sql.execute(f"select count(*), sum(n) from (select count(*) n {groups})").fetchone()
    first = plan.sql.execute(f"select content, split {groups} order by min(position) limit {EXAMPLES}").fetchall()
    query = f"select label from clip where content = ? and split = ? order by position limit {EXAMPLES}"
    return {
        "contents": count,
        "clips": clips or 0,
        "examples": [[label for (label,) in plan.sql.execute(query, group)] for group in first],
    }


def in_words(found: dict[str, Any]) -> Iterator[str]:
    """The peculiarities, a line each."""
    for name, clips in found["peculiar"].items():
        if clips["clips"]:
            yield f"{clips['clips']:,} clips: {name}, e.g. {clips['examples'][0]}"
    if found["duplicates"]["contents"]:
        clips, (first, second) = found["duplicates"]["clips"], found["duplicates"]["examples"][0][:2]
        yield f"{clips:,} clips share their content with others of their split, e.g. {first} and {second}"
    if leaked := found["left_out"].get("leaked"):
        yield f"{leaked:,} clips leaked from val or test into an earlier split and are left out there"


def amount(size: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
