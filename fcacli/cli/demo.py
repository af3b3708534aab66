"""`fca demo`: the whole loop in miniature, on any machine."""

from pathlib import Path
from typing import Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command


@command
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to work in.", show_default=True)] = Path("fca-demo"),
    seed: options.Seed = 0,
    clips: Annotated[
        int | None,
        typer.Option("--clips", metavar="N", min=8, help="Clips of the miniature dataset.", show_default="the demo's"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Training steps.", show_default="the demo's")
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Watch it work: draw a dataset, prepare, train, predict held-out clips, score. Five minutes on two cores."""
    options.check_exclusive(verbose, quiet)
    from fcacli.workflows.demo import demo as run_demo

    with console.talking(verbose, quiet) as report:
        result = run_demo(folder, seed=seed, clips=clips, steps=steps, report=report)
    if json:
        console.print_json(result)
        return
    console.print_text(result.table)
    console.print_text("\nlook at:")
    for file in result.files:
        console.print_text(f"  {options.shown(file)}")
    console.print_text(f"go on with:\n  {result.next}")
