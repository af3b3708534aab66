"""`fca doctor`: what is installed, what this machine has, and what would run on it."""

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.workspace import Workspace


@command
def doctor(json: options.Json = False) -> None:
    """Show versions, devices, memory, codecs and what `--base auto` would choose; works offline.

    Exits with 1 if something is missing that fca needs.
    """
    from fcacli.workflows.doctor import diagnose

    diagnosis = diagnose(Workspace())
    if json:
        console.print_json(diagnosis)
    else:
        for name, value in diagnosis.rows():
            console.print_text(f"{name:<15} {value}")
    if diagnosis.problems:
        for problem in diagnosis.problems if json else ():
            console.print_note(problem)
        raise typer.Exit(1)
