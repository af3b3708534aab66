"""`fca benchmark`: FCA against LoRA on the bundled miniature, in numbers and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.events import Message

SIZE = "Size"


@command
def benchmark(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to work in.", show_default=True)] = Path(
        "fca-benchmark"
    ),
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ARM", help="This arm alone; may be repeated.", rich_help_panel=options.WHERE),
    ] = None,
    choose: Annotated[
        bool,
        typer.Option("--choose", help="First choose learning rates, on clips of their own.", rich_help_panel=options.WHERE),
    ] = False,
    gpus: options.Gpus = None,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=1, help="Steps of a training.", rich_help_panel=SIZE)
    ] = 2000,
    seeds: Annotated[
        int,
        typer.Option("--seeds", metavar="N", min=1, max=100, help="Trainings of FCA and of each LoRA.", rich_help_panel=SIZE),
    ] = 3,
    clips: Annotated[int, typer.Option("--clips", metavar="N", min=1, help="Clips to train on.", rich_help_panel=SIZE)] = 4000,
    scored: Annotated[
        int, typer.Option("--scored", metavar="N", min=1, help="Held-out clips to predict and score.", rich_help_panel=SIZE)
    ] = 256,
    sample_steps: Annotated[
        int | None,
        typer.Option(
            "--sample-steps",
            metavar="N",
            min=1,
            max=1000,
            help="Denoising steps of a prediction.",
            show_default="the base's",
            rich_help_panel=SIZE,
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, max=64, help="Runs at a time.", rich_help_panel=SIZE)
    ] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="X",
            min=0.0,
            help="Stop after so long; the same line goes on.",
            show_default="no limit",
            rich_help_panel=SIZE,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure FCA, LoRA and FCA with one part changed on the bundled miniature. Hours on a CPU; resumable.

    Example: fca benchmark --only fca --only lora-64 --seeds 1 --steps 500
    """
    options.check_exclusive(verbose, quiet)
    from fcacli.workflows.benchmark.arms import Settings
    from fcacli.workflows.benchmark.benchmark import benchmark as run_benchmark

    settings = Settings(steps=steps, clips=clips, scored=scored, sample_steps=sample_steps, choose=choose)
    with console.talking(verbose, quiet) as report:
        result = run_benchmark(
            folder,
            settings,
            only=only or (),
            seeds=seeds,
            gpus=gpus,
            minutes=minutes,
            processes=processes,
            report=report,
        )
        if result.left:
            report(Message(f"the time is up, {len(result.left)} runs are left: the same line goes on"))
    if json:
        console.print_json(result)
        return
    console.print_text(result.table)
    if result.files:
        console.print_text("\nlook at:")
    for file in result.files:
        console.print_text(f"  {options.shown(file)}")
