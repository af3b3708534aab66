"""`fca train`: a prepared dataset -> an adapter below runs/; run again, it continues."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.cli.options import by_base
from fcacli.config import BaseWeights, Sampler
from fcacli.errors import Misuse
from fcacli.events import Message
from fcacli.workflows import launch, launch_script
from fcacli.workflows.ranks import is_main
from fcacli.workflows.train_options import TrainOptions
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.workflows.train import TrainResult

ADAPTER = "Adapter"
OPTIMIZATION = "Optimization"
MEMORY = "Memory"
RUN = "Run"
KEEP, CHECKPOINT_MINUTES = 3, 5.0


@command
def train(
    gpus: options.Gpus = None,
    base: options.Base = None,
    data: options.Data = None,
    adapter: Annotated[
        Literal["fca", "lora", "fca-in-context", "fca-lora"] | None,
        by_base(
            "--adapter",
            ADAPTER,
            "The paper's; the LoRA baseline; FCA with clean frames in front, or with LoRA on the base.",
            default="fca",
        ),
    ] = None,
    adapter_width: Annotated[
        int | None,
        by_base("--adapter-width", ADAPTER, "Width of the parallel attention, of whole heads.", metavar="N", least=1),
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
        int | None, by_base("--lora-rank", ADAPTER, "Rank, with --adapter lora.", metavar="N", least=1)
    ] = None,
    frames: Annotated[
        int | None,
        by_base("--frames", options.CLIP, "Frames of a clip, the given ones included.", options.AS_PREPARED, 2, "N"),
    ] = None,
    init_frames: Annotated[
        int | None, by_base("--init-frames", options.CLIP, "How many of them are given.", options.AS_PREPARED, 1, "N")
    ] = None,
    size: options.Size = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None,
        by_base("--fit", options.CLIP, "How another aspect ratio is brought to that size.", default="crop"),
    ] = None,
    fps: Annotated[
        float | None, by_base("--fps", options.CLIP, "Frames per second of the written predictions.", metavar="X")
    ] = None,
    steps: Annotated[int | None, by_base("--steps", OPTIMIZATION, "Optimizer steps.", metavar="N", least=1)] = None,
    lr: Annotated[float | None, by_base("--lr", OPTIMIZATION, "Peak learning rate.", metavar="X")] = None,
    text_lr_scale: Annotated[
        float | None,
        by_base("--text-lr-scale", OPTIMIZATION, "Of FCA's text modules, as a multiple of --lr.", metavar="X", least=0),
    ] = None,
    timestep_power: Annotated[
        float | None,
        by_base("--timestep-power", OPTIMIZATION, "Below 1: more time steps with much noise.", metavar="X", least=0.1),
    ] = None,
    batch_size: Annotated[
        int | None, by_base("--batch-size", OPTIMIZATION, "Clips that go through the base at once.", metavar="N", least=1)
    ] = None,
    accumulate: Annotated[
        int | None,
        by_base(
            "--accumulate", OPTIMIZATION, "Batches per optimizer step, over all processes.", default="1", metavar="N", least=1
        ),
    ] = None,
    warmup: Annotated[int | None, by_base("--warmup", OPTIMIZATION, "Steps of linear warm-up.", metavar="N", least=0)] = None,
    weight_decay: Annotated[
        float | None, by_base("--weight-decay", OPTIMIZATION, "Of matrices.", default="0.0001", metavar="X", least=0)
    ] = None,
    clip_norm: Annotated[
        float | None,
        by_base("--clip-norm", OPTIMIZATION, "Gradient norm above which gradients are scaled down.", default="1", metavar="X"),
    ] = None,
    caption_dropout: Annotated[
        float | None,
        by_base("--caption-dropout", OPTIMIZATION, "Share of samples with the empty caption.", default="0.1", metavar="X"),
    ] = None,
    optimizer: Annotated[
        Literal["adamw8bit", "paged-adamw8bit", "adamw", "muon"] | None,
        by_base("--optimizer", OPTIMIZATION, "AdamW with 8-bit state, the same in pages that CUDA moves, or ordinary; Muon."),
    ] = None,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"] | None,
        by_base("--precision", OPTIMIZATION, "Arithmetic of a step; auto: bf16 where the device has it."),
    ] = None,
    weights: Annotated[
        Literal["fp32", "bf16", "bf16-stochastic"] | None,
        by_base(
            "--weights",
            OPTIMIZATION,
            "Trained weights: fp32; bf16 with an exact remainder; bf16 rounded by lot, the least memory.",
            default="fp32",
        ),
    ] = None,
    offload_optimizer: Annotated[
        bool | None,
        by_base(
            "--offload-optimizer/--no-offload-optimizer",
            OPTIMIZATION,
            "Keep the optimizer's state in host memory: slower, less device memory.",
            default="no-offload-optimizer",
        ),
    ] = None,
    offload_gradients: Annotated[
        bool | None,
        by_base(
            "--offload-gradients/--no-offload-gradients",
            OPTIMIZATION,
            "Have gradients wait in host memory: slower, less device memory.",
            default="no-offload-gradients",
        ),
    ] = None,
    checkpointing: Annotated[
        bool | None,
        by_base(
            "--checkpointing/--no-checkpointing",
            OPTIMIZATION,
            "Recompute activations in the backward pass: slower, less memory.",
        ),
    ] = None,
    offload_activations: Annotated[
        bool | None,
        by_base(
            "--offload-activations/--no-offload-activations",
            MEMORY,
            "Keep in main memory what they are recomputed from.",
            default="no",
        ),
    ] = None,
    base_weights: Annotated[
        BaseWeights | None,
        by_base("--base-weights", MEMORY, "The frozen base's: in full, in 8 bits or in 4.", default="full"),
    ] = None,
    block_swap: Annotated[
        int | None,
        by_base(
            "--block-swap",
            MEMORY,
            "Frozen blocks that wait in main memory and are copied ahead of their use.",
            default="0",
            metavar="N",
            least=0,
        ),
    ] = None,
    shard_base: Annotated[
        bool | None,
        by_base(
            "--shard-base/--no-shard-base",
            options.SEVERAL,
            "Share the frozen base out among the devices (FSDP2); each gathers a part when it is used.",
            default="no",
        ),
    ] = None,
    vae_tiling: Annotated[
        bool | None,
        by_base("--vae-tiling/--no-vae-tiling", MEMORY, "Decode videos in tiles.", default="for large frames"),
    ] = None,
    deterministic: Annotated[
        bool | None,
        by_base(
            "--deterministic/--no-deterministic",
            OPTIMIZATION,
            "On a GPU: kernels that give the same bits each time. Long clips take longer.",
            default="yes",
        ),
    ] = None,
    compile: Annotated[
        bool | None,
        by_base("--compile/--no-compile", OPTIMIZATION, "Run all blocks through torch.compile.", default="no"),
    ] = None,
    seed: Annotated[
        int | None, by_base("--seed", OPTIMIZATION, "Seed of all that is random.", default="0", metavar="N", least=0)
    ] = None,
    run: Annotated[
        str | None,
        by_base(
            "--run", RUN, "Name below runs/; an unfinished run of that name continues.", default="date and time", metavar="NAME"
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Start a new run even if an unfinished one could continue.", rich_help_panel=RUN)
    ] = False,
    fork: Annotated[
        str | None,
        typer.Option(
            "--fork",
            metavar="NAME",
            help="Start a new run from the newest weights of this one; its options, but for those given here.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Start even if the plan (see fca plan) says that it will not fit.", rich_help_panel=RUN),
    ] = False,
    validate_every: Annotated[
        int | None, by_base("--validate-every", RUN, "Steps between validations; 0 for only the last.", metavar="N", least=0)
    ] = None,
    validate_clips: Annotated[
        int | None, by_base("--validate-clips", RUN, "Clips generated at a validation.", default="4", metavar="N", least=0)
    ] = None,
    sample_steps: Annotated[
        int | None,
        by_base(
            "--sample-steps", RUN, "Denoising steps of those clips, and default of predict and eval.", metavar="N", least=1
        ),
    ] = None,
    guidance: Annotated[
        float | None, by_base("--guidance", RUN, "Classifier-free guidance of the same.", metavar="X", least=0)
    ] = None,
    sampler: Annotated[
        Sampler | None,
        by_base("--sampler", RUN, "Of the same: the base's own scheduler, or new noise at every step."),
    ] = None,
    checkpoint_minutes: Annotated[
        float,
        typer.Option("--checkpoint-minutes", min=0.1, metavar="X", help="Minutes between checkpoints.", rich_help_panel=RUN),
    ] = CHECKPOINT_MINUTES,
    keep: Annotated[int, typer.Option("--keep", min=1, metavar="N", help="Checkpoints kept.", rich_help_panel=RUN)] = KEEP,
    max_minutes: Annotated[
        float | None,
        by_base("--max-minutes", RUN, "Stop after so long, saved and unfinished.", default="no limit", metavar="X", least=0),
    ] = None,
    workers: Annotated[
        int | None,
        by_base("--workers", RUN, "Processes that load clips.", default="by the size of the data", metavar="N", least=0),
    ] = None,
    nodes: options.Nodes = 1,
    rendezvous: Annotated[
        str | None, by_base("--rendezvous", options.SEVERAL, "Where the machines meet.", default="", metavar="HOST:PORT")
    ] = None,
    processes: options.Processes = None,
    accelerate_config: Annotated[
        Path | None,
        by_base("--accelerate-config", options.SEVERAL, "File of `accelerate config` to go by.", default="", metavar="FILE"),
    ] = None,
    print_launch: Annotated[
        bool,
        typer.Option(
            "--print-launch", help="Print a SLURM script of this training and do nothing.", rich_help_panel=options.SEVERAL
        ),
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an adapter on the prepared data; run it again to continue after an interruption.

    The first line says which base is used and why. Options left out take that base's defaults.
    """
    options.check_exclusive(verbose, quiet)
    width, height = options.parse_size(size) or (None, None)
    fields = dict(as_field(text) for text in adapter_set or ())
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
        text_lr_scale=text_lr_scale,
        timestep_power=timestep_power,
        batch_size=batch_size,
        accumulate=accumulate,
        warmup=warmup,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        caption_dropout=caption_dropout,
        optimizer=optimizer,
        precision=precision,
        weights=weights,
        offload_optimizer=offload_optimizer,
        offload_gradients=offload_gradients,
        checkpointing=checkpointing,
        offload_activations=offload_activations,
        base_weights=base_weights,
        block_swap=block_swap,
        shard_base=shard_base,
        vae_tiling=vae_tiling,
        deterministic=deterministic,
        compile=compile,
        seed=seed,
        validate_every=validate_every,
        validate_clips=validate_clips,
        sample_steps=sample_steps,
        guidance=guidance,
        sampler=sampler,
        width=width,
        height=height,
        adapter_fields=fields,
    )
    chosen = launch.layout(gpus, processes, nodes, rendezvous, accelerate_config)
    if print_launch:
        with console.talking(verbose, quiet) as report:
            launch_script.check(Workspace(), asked, chosen or launch.alone(gpus), report, run, new, fork)
        console.print_text(launch_script.slurm_script(sys.argv[1:], chosen or launch.alone(gpus)))
        return
    if chosen is not None and not chosen.single:
        with console.talking(verbose, quiet) as report:
            launch.launch(sys.argv[1:], chosen, report)
        return
    if chosen is not None:  # a file that names one process
        gpus = 0 if chosen.device == "cpu" else gpus
        asked = replace(asked, precision=precision or chosen.precision)
    from fcacli.workflows.train import train as run_train

    seconds = None if max_minutes is None else max_minutes * 60
    besides = {
        "--keep": keep if keep != KEEP else None,
        "--workers": workers,
        "--checkpoint-minutes": checkpoint_minutes if checkpoint_minutes != CHECKPOINT_MINUTES else None,
        "--max-minutes": max_minutes,
        "--nodes": nodes if nodes > 1 else None,
        "--rendezvous": rendezvous,
        "--processes": processes,
        "--accelerate-config": accelerate_config,
    }
    with console.talking(verbose, quiet) as report:
        result = run_train(
            Workspace(),
            asked,
            gpus=gpus,
            run=run,
            new=new,
            fork=fork,
            force=force,
            keep=keep,
            workers=workers,
            checkpoint_minutes=checkpoint_minutes,
            max_seconds=seconds,
            besides=[word for name, value in besides.items() if value is not None for word in (name, str(value))],
            report=report,
        )
        if is_main():
            report(Message(_summary(result)))
    if not is_main():
        return
    if json:
        console.print_json(result)
    else:
        console.print_text(options.shown(result.run))


def _summary(result: "TrainResult") -> str:
    """Where the run stands, and what to do next."""
    losses = {"loss": result.train_loss, "held-out loss": result.held_out_loss}
    shown = [f"{name} {value:.4f}" for name, value in losses.items() if value is not None]
    done = "finished" if result.finished else "unfinished, `fca train` continues"
    return "; ".join([f"step {result.step} of {result.steps} ({done})", *shown, 'next: fca predict FRAMES "TEXT", fca eval'])


def as_field(text: str) -> tuple[str, int | float | str]:
    """A field of the adapter's config and its value from "modulation=block".

    Raises:
        Misuse: there is no name, no "=" or no value.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise Misuse(f"--set takes FIELD=VALUE, got {text!r}", "--set modulation=block")
    for number in (int, float):
        with suppress(ValueError):
            return name.replace("-", "_"), number(value)
    return name.replace("-", "_"), value
