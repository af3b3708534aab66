"""`fca toy`: a miniature dataset in the layout of Something-Something V2."""

from pathlib import Path
from typing import Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.errors import Misuse


@command
def toy(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.", show_default=False)],
    clips: Annotated[int, typer.Option("--clips", metavar="N", min=4, help="How many clips, all splits together.")] = 200,
    seed: options.Seed = 0,
    size: Annotated[int, typer.Option("--size", metavar="N", min=16, max=1024, help="Pixels of a side, even.")] = 96,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a miniature dataset: a hand moves coloured objects, WebM videos + labels as in Something-Something V2.

    Example: fca toy ./raw --clips 200   then   fca prepare ssv2 ./raw
    """
    options.check_exclusive(verbose, quiet)
    if size % 2:
        raise Misuse(f"--size must be even, got {size}", f"--size {size + 1}")
    from fcacli.workflows.toy import write_toy

    with console.talking(verbose, quiet) as report:
        result = write_toy(out, clips=clips, seed=seed, size=size, report=report)
    if json:
        console.print_json(result)
    else:
        console.print_text(options.shown(result.folder))
