"""The command line: `fca COMMAND`. One file per command: options -> a call of its workflow -> print the result."""

from typing import Annotated

import typer

from fcacli import __version__
from fcacli.cli import benchmark, compare, completions, demo, doctor, eval, plan, predict, prepare, toy, train, weights

app = typer.Typer(
    name="fca",
    help="Text-video prediction: first frames + a text in, the frames that follow out.\n\n"
    "Adapts a text-to-video diffusion transformer by Frame-wise Conditioning Adaptation.",
    epilog="First time here: fca demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

THE_LOOP = "The loop"
TRY = "Try it out"
MACHINE = "This machine"

app.command("prepare", rich_help_panel=THE_LOOP)(prepare.prepare)
app.command("plan", rich_help_panel=THE_LOOP)(plan.plan)
app.command("train", rich_help_panel=THE_LOOP)(train.train)
app.command("predict", rich_help_panel=THE_LOOP)(predict.predict)
app.command("eval", rich_help_panel=THE_LOOP)(eval.evaluate)
app.command("compare", rich_help_panel=THE_LOOP)(compare.compare)
app.command("demo", rich_help_panel=TRY)(demo.demo)
app.command("benchmark", rich_help_panel=TRY)(benchmark.benchmark)
app.command("toy", rich_help_panel=TRY)(toy.toy)
app.command("weights", rich_help_panel=MACHINE)(weights.weights)
app.command("doctor", rich_help_panel=MACHINE)(doctor.doctor)
app.command("completions", rich_help_panel=MACHINE)(completions.completions)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"fca {__version__}")
        raise typer.Exit


@app.callback()
def _fca(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The `fca` program."""
    app(prog_name="fca")
