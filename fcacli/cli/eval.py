"""`fca eval`: scores of a run on held-out clips, or of any two folders of videos."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.errors import Misuse
from fcacli.events import Message
from fcacli.workspace import Workspace

FOLDERS = "Any two folders"


@command
def evaluate(
    run: options.Run = None,
    checkpoint: options.Checkpoint = None,
    split: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option("--split", help="Whose clips to score.", show_default="val", rich_help_panel=options.WHERE),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="Score at most so many clips.", rich_help_panel=options.WHERE),
    ] = None,
    device: options.Device = None,
    pred: Annotated[
        Path | None, typer.Option("--pred", metavar="DIR", help="Predicted videos.", rich_help_panel=FOLDERS)
    ] = None,
    real: Annotated[
        Path | None, typer.Option("--real", metavar="DIR", help="True videos, paired by file name.", rich_help_panel=FOLDERS)
    ] = None,
    given: Annotated[
        int | None,
        typer.Option(
            "--given",
            metavar="N",
            min=0,
            help="Leave out so many first frames, the given ones.",
            show_default="0",
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Score predictions per frame (PSNR, SSIM) beside copy-last-frame and the unadapted base.

    Examples: fca eval    fca eval --pred theirs/ --real truth/
    """
    options.check_exclusive(verbose, quiet)
    if (pred is None) != (real is None):
        raise Misuse("--pred and --real go together", "fca eval --pred DIR --real DIR")
    if pred is None and given is not None:
        raise Misuse("--given goes with --pred and --real; a run knows its given frames")
    if pred is not None and any(option is not None for option in (run, checkpoint, split, limit, device)):
        raise Misuse("--run, --checkpoint, --split, --limit and --device are about a run; --pred and --real score two folders")
    with console.talking(verbose, quiet) as report:
        if pred is not None and real is not None:
            from fcacli.workflows.evaluate_folders import evaluate_folders

            result = evaluate_folders(pred, real, given=given or 0, report=report)
        else:
            from fcacli.workflows.evaluate import evaluate_run

            result = evaluate_run(
                Workspace(), run=run, checkpoint=checkpoint, limit=limit, device=device, split=split or "val", report=report
            )
        if result.folder is not None:
            report(Message(f"pictures and results.json in {options.shown(result.folder)}"))
    if json:
        console.print_json(result.results)
    else:
        console.print_text(result.table)
