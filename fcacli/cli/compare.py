"""`fca compare`: is the difference real?"""

from typing import Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.events import Message
from fcacli.workspace import Workspace


@command
def compare(
    results: Annotated[
        list[str], typer.Argument(metavar="RESULTS", help="Runs, results files, or folders of one; of one alone, its rows.")
    ],
    anyway: Annotated[bool, typer.Option("--anyway", help="Although conditions differ, on the clips that all have.")] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare results with the first of them, clip by clip: every difference with its interval (paired bootstrap).

    Examples: fca compare first second    fca compare a/results.json b/results.json    fca compare first
    """
    options.check_exclusive(verbose, quiet)
    with console.talking(verbose, quiet) as report:
        from fcacli.evaluation.comparison_table import as_json, table
        from fcacli.workflows.compare import compare

        found = compare(Workspace(), results, anyway=anyway, report=report)
        for line in found.noted:
            report(Message(f"differs as well: {line}"))
    if json:
        console.print_json(as_json(found))
    else:
        console.print_text(table(found))
