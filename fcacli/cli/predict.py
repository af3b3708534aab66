"""`fca predict`: first frames and a text -> the frames that follow, below predictions/."""

from pathlib import Path
from typing import Annotated

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.config import Offload
from fcacli.workspace import Workspace


@command
def predict(
    frames: Annotated[
        Path,
        typer.Argument(metavar="FRAMES", help="First frames: a folder of images, a video or one image.", show_default=False),
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What happens, e.g. 'pushing cup left'.", show_default=False)],
    run: options.Run = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    steps: options.SampleSteps = None,
    guidance: options.Guidance = None,
    sampler: options.SamplerChoice = None,
    num: Annotated[
        int,
        typer.Option(
            "--num", metavar="N", min=1, max=1000, help="Predictions; number n uses seed + n.", rich_help_panel=options.SAMPLING
        ),
    ] = 1,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the noise.", rich_help_panel=options.SAMPLING)
    ] = 0,
    compile: options.Compile = None,
    offload: Annotated[
        Offload | None,
        typer.Option(
            "--offload",
            help="What FCA uses once (model), the base's blocks too (sequential) wait in main memory: slower, the same video.",
            show_default="what the GPU has room for",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    keep_generated_init: Annotated[
        bool,
        typer.Option(
            "--keep-generated-init",
            help="Show the model's own first frames instead of the given ones.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write.",
            show_default="a new one below predictions/",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Predict what follows the given frames under the text: MP4, GIF, PNG frames and a contact sheet.

    Example: fca predict frames/ "pushing cup left"
    """
    options.check_exclusive(verbose, quiet)
    from fcacli.workflows.predict import predict as run_predict

    with console.talking(verbose, quiet) as report:
        result = run_predict(
            Workspace(),
            frames,
            text,
            run=run,
            checkpoint=checkpoint,
            num=num,
            seed=seed,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            offload=offload,
            keep_generated_init=keep_generated_init,
            out=out,
            device=device,
            compile=compile,
            report=report,
        )
    if json:
        console.print_json(result)
        return
    for file in result.files:
        console.print_text(options.shown(file))
