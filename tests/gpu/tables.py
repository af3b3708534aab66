"""What was measured, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcacli.planning.choice import CONTEXT

Row = Mapping[str, Any]
OF_PLAN = {
    "training and saving": ("loading", "training step", "saving"),
    "validation": ("validation: sampling",),
    "decode": ("validation: decoding",),
}
"""What is measured of a training in one piece, and its phases of a plan."""
PHASES = tuple(OF_PLAN)
OF_ENCODING = ("captions", "videos", "images")
OF_PREDICTIONS = ("encode", "loading", "conditions", "denoising", "decode")
"""Conditions with one denoising step, and with some."""


def as_text(found: dict[str, Any]) -> str:
    lines = [f"# {found['device']}, {found['date']}, commit {found['commit']}", ""]
    lines += [f"torch {found['torch']}, Python {found['python']}; random weights, batch 1, bf16. {_took(found)}", ""]
    lines += [f"failed: {said}" for said in found.get("failed", [])]
    if "tests" in found:
        lines += ["## CUDA tests", "", "```", found["tests"].get("said") or found["tests"]["failed"], "```", ""]
    if "encode" in found:
        lines += ["## Encoding, the same for all bases", "", *_memory_table(found["encode"], OF_ENCODING, "")]
    if "memory" in found:
        lines += ["## Trainings", "", *_summary(found["memory"]), *_memory_table(found["memory"], PHASES, "seconds_per_clip")]
    if "predict" in found:
        lines += ["## Predictions", "", *_memory_table(found["predict"], OF_PREDICTIONS, "seconds_per_step")]
    if "speed" in found:
        lines += ["## Speed", "", *_speed_table(found["speed"])]
    if "attention" in found:
        lines += ["## Kernels of attention", "", *_attention_table(found["attention"])]
    if "mini" in found:
        lines += ["## The miniature on the GPU", ""]
        for row in found["mini"].get("lines", []):
            lines.append(f"- `fca {row['line']}`: exit status {row['status']}, {row['seconds']} s")
            lines += ["", "```", row["said"], "```", ""] if row["status"] else []
        lines += [found["mini"]["failed"], ""] if "failed" in found["mini"] else []
        compared, differs = found["mini"].get("same", {}).items(), found["mini"].get("differs")
        same = ", ".join(f"{what}: {'the same' if yes else 'NOT the same'}" for what, yes in compared)
        lines += ["", f"Bit by bit, {same}{f'; first at {differs}' if differs else ''}.", ""]
    return "\n".join(lines) + "\n"


def _took(found: Row) -> str:
    return f"{found['took'] / 60:.1f} minutes in all." if "took" in found else ""


def _summary(rows: Sequence[Row]) -> list[str]:
    """One line for each case: whether it fitted into its card."""
    kept = f"A process is kept to the card's GB (10^9 bytes) less {CONTEXT / 1e9:.2f} for its context."
    lines = [f"{kept} Fits, with the largest share of that:", ""]
    for row in rows:
        where = f"{row['base']} {row['shape']}, {row['card']:g} GB"
        if "out_of_memory" in row:
            lines.append(f"- {where}: **does not fit**")
        elif "phases" not in row:
            lines.append(f"- {where}: not measured")
        else:
            peak = max(phase.get("reserved_gib", 0) for phase in row["phases"].values())
            lines.append(f"- {where}: {peak / row['cap']:.0%}" + " in the phases that were measured" * ("failed" in row))
    return [*lines, ""]


def _memory_table(rows: Sequence[Row], names: Sequence[str], seconds: str) -> list[str]:
    """Each phase as measured and, behind it, as planned."""
    unit = {"seconds_per_clip": "s/clip", "seconds_per_step": "s/denoising step"}.get(seconds, "")
    phases = [f"{phase}, GiB (planned)" for phase in names]
    lines = _head(["base", "T x H x W", "card, GB", "options", *phases, "reserved / allocated", "context, GiB", unit])
    for row in rows:
        plan = row.get("planned", {})
        cells = [row["base"], row["shape"], f"{row['card']:g}" if row["card"] else "", _options(row)]
        phases = row.get("phases", {})
        cells += [_phase(phases.get(phase, {}), plan.get(phase)) for phase in names]
        cells += [_fragmentation(phases.values()), str(row.get("context_gib") or "")]
        cells.append(row.get("out_of_memory") or row.get("failed") or str(row.get(seconds, "")))
        lines.append("| " + " | ".join(cells) + " |")
    said = "Allocated, and in brackets what the plan says of it. Seconds are those of one step with the card for itself."
    return [*lines, "", said, ""]


def _fragmentation(phases: Any) -> str:
    """Of the phase that reserves the most."""
    most = max(phases, key=lambda phase: phase.get("reserved_gib", 0), default={})
    return f"{most['reserved_gib'] / most['allocated_gib']:.3f}" if most.get("allocated_gib") else ""


def _speed_table(rows: Sequence[Row]) -> list[str]:
    """A clip against the floor and against the first line of the same base and shape; a denoising step against the base's."""
    lines = _head(["base", "T x H x W", "options", "s/clip", "x floor", "x first", "denoising, s", "x base", "peak, GiB"])
    first: dict[tuple[str, str], float] = {}
    for row in rows:
        cells = [row["base"], row["shape"], _options(row)]
        if "seconds" in row:
            taken, of = row["seconds_per_clip"], row["seconds"]
            first.setdefault((row["base"], row["shape"]), taken)
            ratios = (taken / of["floor"], taken / first[row["base"], row["shape"]])
            cells += [f"{taken:.4f}", *(f"{ratio:.3f}" for ratio in ratios)]
            cells += [f"{of['adapted']:.4f}", f"{of['adapted'] / of['alone']:.3f}"]
            cells += [str(row["phases"]["training and saving"].get("allocated_gib", ""))]
        else:
            cells += [row.get("out_of_memory") or row.get("failed", ""), *[""] * 5]
        lines.append("| " + " | ".join(cells) + " |")
    floor = "Floor: the base's own forward and backward pass through its activations, checkpointed alike."
    return [*lines, "", f"{floor} Denoising: both halves of guidance.", ""]


def _attention_table(found: Mapping[str, Any]) -> list[str]:
    lines = _head(["shape (B, H, S, c)", "kernel", "forward, ms", "with backward, ms", "same bits, ms", "its memory, GiB"])
    for shape, kernels in found.items():
        for kernel, row in kernels.items() if isinstance(kernels, dict) else [("", kernels)]:
            cells = [row[key] for key in ("forward", "both", "same", "gib")] if isinstance(row, dict) else [row, "", "", ""]
            lines.append("| " + " | ".join([shape, kernel, *map(str, cells)]) + " |")
    return [*lines, ""]


def _head(names: list[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _options(row: Row) -> str:
    offload = {"offload": row["offload"]} if "offload" in row else {}
    return ", ".join(f"{name}={value}" for name, value in (row["options"] | offload).items())


def _phase(found: Row, planned: float | None) -> str:
    measured, plan = found.get("allocated_gib", ""), planned if planned is not None else "no plan"
    return f"{measured} ({plan}{f', {planned / measured - 1:+.0%}' if measured and planned else ''})"
