"""`fca prepare`: raw videos and labels -> data/<name>/."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.workspace import Workspace


class Split(StrEnum):
    train = "train"
    val = "val"
    test = "test"


@command
def prepare(
    reader: Annotated[
        str, typer.Argument(metavar="READER", help="Layout of the raw data: ssv2 or folder.", show_default=False)
    ],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder with the videos and labels.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="Name below data/.", show_default="the reader's")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Take at most so many clips of each split.")
    ] = None,
    split: Annotated[list[Split] | None, typer.Option("--split", help="Only this split; may be repeated.")] = None,
    workers: options.Workers = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="BASE", help="Encode for this base at once; else the first phase of train does."),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring raw videos into one form: data/NAME/{train,val,test}, clips that cannot be read listed.

    Example: fca prepare ssv2 ./raw
    """
    options.check_exclusive(verbose, quiet)
    from fcacli.workflows.prepare import prepare as run_prepare

    workspace = Workspace()
    with console.talking(verbose, quiet) as report:
        result = run_prepare(reader, raw, workspace, name=name, limit=limit, splits=split, workers=workers, report=report)
    if json:
        console.print_json(result)
