"""`fca train`: a prepared dataset -> an adapter below runs/; run again, it continues."""

from typing import Annotated, Literal

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.errors import Misuse
from fcacli.workspace import Workspace

ADAPTER = "Adapter"
OPTIMIZATION = "Optimization"
RUN = "Run"
THE_BASES = "the base's"


@command
def train(
    gpus: options.Gpus = None,
    base: options.Base = None,
    data: options.Data = None,
    adapter: Annotated[
        Literal["fca", "lora"] | None,
        typer.Option("--adapter", help="The paper's, or the LoRA baseline.", show_default="fca", rich_help_panel=ADAPTER),
    ] = None,
    adapter_width: Annotated[
        int | None,
        typer.Option(
            "--adapter-width",
            min=1,
            metavar="N",
            help="Width of the parallel attention, a multiple of the head dimension.",
            show_default=THE_BASES,
            rich_help_panel=ADAPTER,
        ),
    ] = None,
    adapter_set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Another field of the adapter, see the README; may be repeated.",
            rich_help_panel=ADAPTER,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            "--lora-rank",
            min=1,
            metavar="N",
            help="Rank, with --adapter lora.",
            show_default=THE_BASES,
            rich_help_panel=ADAPTER,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=2,
            metavar="N",
            help="Frames of a clip, the given ones included.",
            show_default=THE_BASES,
            rich_help_panel=options.CLIP,
        ),
    ] = None,
    init_frames: Annotated[
        int | None,
        typer.Option(
            "--init-frames",
            min=1,
            metavar="N",
            help="How many of them are given.",
            show_default=THE_BASES,
            rich_help_panel=options.CLIP,
        ),
    ] = None,
    size: options.Size = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None,
        typer.Option(
            "--fit", help="How another aspect ratio is brought to that size.", show_default="crop", rich_help_panel=options.CLIP
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="X",
            help="Frames per second of the written predictions.",
            show_default=THE_BASES,
            rich_help_panel=options.CLIP,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, metavar="N", help="Optimizer steps.", show_default=THE_BASES, rich_help_panel=OPTIMIZATION
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", metavar="X", help="Peak learning rate.", show_default=THE_BASES, rich_help_panel=OPTIMIZATION),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            metavar="N",
            help="Clips per device at once.",
            show_default=THE_BASES,
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            "--accumulate",
            min=1,
            metavar="N",
            help="Batches per optimizer step.",
            show_default="1",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(
            "--warmup",
            min=0,
            metavar="N",
            help="Steps of linear warm-up.",
            show_default=THE_BASES,
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            "--weight-decay", min=0.0, metavar="X", help="Of AdamW.", show_default="0.0001", rich_help_panel=OPTIMIZATION
        ),
    ] = None,
    clip_norm: Annotated[
        float | None,
        typer.Option(
            "--clip-norm",
            metavar="X",
            help="Gradient norm above which gradients are scaled down.",
            show_default="1",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    caption_dropout: Annotated[
        float | None,
        typer.Option(
            "--caption-dropout",
            metavar="X",
            help="Share of samples with the empty caption.",
            show_default="0.1",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    optimizer: Annotated[
        Literal["adamw8bit", "adamw"] | None,
        typer.Option("--optimizer", help="8-bit or ordinary AdamW.", show_default=THE_BASES, rich_help_panel=OPTIMIZATION),
    ] = None,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"] | None,
        typer.Option(
            "--precision",
            help="Arithmetic of a step; auto: bf16 where the device has it.",
            show_default=THE_BASES,
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing/--no-checkpointing",
            help="Recompute activations in the backward pass: slower, less memory.",
            show_default=THE_BASES,
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, metavar="N", help="Seed of all that is random.", show_default="0", rich_help_panel=OPTIMIZATION
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="NAME",
            help="Name below runs/; an unfinished run of that name continues.",
            show_default="date and time",
            rich_help_panel=RUN,
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Start a new run even if an unfinished one could continue.", rich_help_panel=RUN)
    ] = False,
    validate_every: Annotated[
        int | None,
        typer.Option(
            "--validate-every",
            min=0,
            metavar="N",
            help="Steps between validations; 0 for only the last.",
            show_default=THE_BASES,
            rich_help_panel=RUN,
        ),
    ] = None,
    validate_clips: Annotated[
        int | None,
        typer.Option(
            "--validate-clips",
            min=0,
            metavar="N",
            help="Clips generated at a validation.",
            show_default="4",
            rich_help_panel=RUN,
        ),
    ] = None,
    sample_steps: Annotated[
        int | None,
        typer.Option(
            "--sample-steps",
            min=1,
            metavar="N",
            help="Denoising steps of those clips, and default of predict and eval.",
            show_default=THE_BASES,
            rich_help_panel=RUN,
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            min=0.0,
            metavar="X",
            help="Classifier-free guidance of the same.",
            show_default=THE_BASES,
            rich_help_panel=RUN,
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            "--max-minutes",
            min=0.0,
            metavar="X",
            help="Stop after so long, saved and unfinished.",
            show_default="no limit",
            rich_help_panel=RUN,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            metavar="N",
            help="Processes that load clips.",
            show_default="by the size of the data",
            rich_help_panel=RUN,
        ),
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an adapter on the prepared data; run it again to continue after an interruption.

    The first line says which base is used and why. Options left out take that base's defaults.
    """
    options.check_exclusive(verbose, quiet)
    width, height = options.parse_size(size) or (None, None)
    fields = dict(_field(text) for text in adapter_set or ())
    from fcacli.workflows.train import TrainOptions
    from fcacli.workflows.train import train as run_train

    asked = TrainOptions(
        base=base,
        data=data,
        adapter=adapter,
        adapter_width=adapter_width,
        lora_rank=lora_rank,
        frames=frames,
        init_frames=init_frames,
        fit=fit,
        fps=fps,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        accumulate=accumulate,
        warmup=warmup,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        caption_dropout=caption_dropout,
        optimizer=optimizer,
        precision=precision,
        checkpointing=checkpointing,
        seed=seed,
        validate_every=validate_every,
        validate_clips=validate_clips,
        sample_steps=sample_steps,
        guidance=guidance,
        width=width,
        height=height,
        adapter_fields=fields,
    )
    seconds = None if max_minutes is None else max_minutes * 60
    with console.talking(verbose, quiet) as report:
        result = run_train(Workspace(), asked, gpus=gpus, run=run, new=new, workers=workers, max_seconds=seconds, report=report)
    if json:
        console.print_json(result)
    else:
        console.print_text(options.shown(result.run))


def _field(text: str) -> tuple[str, str | int]:
    """A field of the adapter's config and its value from "modulation=block".

    Raises:
        Misuse: there is no name, no "=" or no value.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise Misuse(f"--set takes FIELD=VALUE, got {text!r}", "--set modulation=block")
    return name.replace("-", "_"), int(value) if value.isdecimal() else value
