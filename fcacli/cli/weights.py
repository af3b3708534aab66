"""`fca weights`: what each metric of `fca eval` needs, where it comes from, and whether it is here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command

if TYPE_CHECKING:
    from fcacli.workflows.weights import Found


@command
def weights(
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch",
            metavar="NAME",
            help="Fetch these weights, or all that this metric needs; may be repeated.",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option(
            "--weights-dir",
            metavar="DIR",
            help="Look here first, and fetch into it.",
            show_default="FCA_WEIGHTS, then the caches",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the pretrained weights that metrics of `fca eval` need: where from, here or not, checksum.

    Examples: fca weights    fca weights --fetch fvd --fetch lpips
    """
    from fcacli.workflows import weights as workflow

    options.check_exclusive(verbose, quiet)
    with console.talking(verbose, quiet) as report:
        if fetch:
            workflow.fetch(fetch, report, weights_dir)
        rows = workflow.survey(weights_dir)
    if json:
        console.print_json({"weights": rows})
        return
    console.print_text(_table(rows))


def _table(rows: "list[Found]") -> str:
    from fcacli.evaluation.weights import BUNDLED, NOT_NEEDED

    lines = [f"{', '.join(NOT_NEEDED)} need no weights; {', '.join(BUNDLED)} bring their own, and so does CLIP on mini", ""]
    for row in rows:
        size = f", {_size(row.size)}" if row.size else ""
        lines.append(f"{row.name:<13} {', '.join(row.metrics)}: {row.what}{size}")
        if row.path is None:
            file, sha256 = next(iter(row.sha256.items()))
            lines += [f"{'':<13} missing; fca weights --fetch {row.name}", f"{'':<13} from {row.source}"]
            lines.append(f"{'':<13} sha256 of {file}: {sha256} (stated by {row.stated_by})")
        else:
            lines.append(f"{'':<13} {row.checksum}: {row.path}")
        lines.append(f"{'':<13} licence: {row.licence}")
    return "\n".join(lines)


def _size(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 else f"{size / 1024:.1f} KiB"
