"""`fca prepare`: raw videos and labels -> data/<name>/."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.workspace import Workspace


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
    split: Annotated[Literal["train", "val", "test"] | None, typer.Option("--split", help="Only this split.")] = None,
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

    if base is not None:  # a wrong name is said before the work, not after it
        from fcacli.model.bases import resolve_base

        resolve_base(base)
    splits = None if split is None else [split]
    with console.talking(verbose, quiet) as report:
        result = run_prepare(reader, raw, Workspace(), name=name, limit=limit, splits=splits, workers=workers, report=report)
        if base is not None:
            from fcacli.workflows.encode_ahead import encode_ahead

            encode_ahead(result.folder, base, report=report)
    if json:
        console.print_json(result)
    else:
        console.print_text(options.shown(result.folder))
