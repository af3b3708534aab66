"""`fca eval`: scores of a run on held-out clips, or of any two folders of videos."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.errors import Misuse
from fcacli.events import Message
from fcacli.workflows import launch
from fcacli.workflows.devices import choose_eval_device
from fcacli.workflows.ranks import team_of
from fcacli.workspace import Workspace

FOLDERS = "Any two folders"
METRICS = "Metrics"


@command
def evaluate(
    run: options.Run = None,
    checkpoint: options.Checkpoint = None,
    split: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option("--split", help="Whose clips to score.", show_default="val", rich_help_panel=options.WHERE),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=1, help="Score at most so many clips.", show_default="64", rich_help_panel=options.WHERE
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            "--num",
            metavar="N",
            min=1,
            help="Predictions of each clip: their mean, and the best of them named as such.",
            show_default="1",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    no_others: Annotated[
        bool, typer.Option("--no-others", help="No rows for the workspace's other runs.", rich_help_panel=options.WHERE)
    ] = False,
    i2v: Annotated[
        str | None,
        typer.Option(
            "--i2v",
            metavar="PIPELINE",
            help="A row for a pre-trained pipeline: cogvideox-5b-i2v, cogvideox1.5-5b-i2v, a hub id or folder.",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    device: options.Device = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            metavar="N",
            min=0,
            help="CUDA devices, each with its share of the clips; 0 for the CPU.",
            show_default="1 if there is one",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    processes: options.Processes = None,
    pred: Annotated[
        Path | None, typer.Option("--pred", metavar="DIR", help="Predicted videos.", rich_help_panel=FOLDERS)
    ] = None,
    real: Annotated[
        Path | None, typer.Option("--real", metavar="DIR", help="True videos, paired by file name.", rich_help_panel=FOLDERS)
    ] = None,
    given: Annotated[
        int | None,
        typer.Option(
            "--given",
            metavar="N",
            min=0,
            help="How many first frames are given; per-frame metrics leave them out.",
            show_default="0",
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    intersect: Annotated[
        bool,
        typer.Option("--intersect", help="Score the videos that both have, alike in length and size.", rich_help_panel=FOLDERS),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write results.json and report.html there.", rich_help_panel=FOLDERS),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            metavar="NAMES",
            help="psnr, ssim, lpips, clip-text, clip-init, flickering, fvd, kvd, kvd-seer, fid, mini-...; joined by commas.",
            show_default="all whose weights are here",
            rich_help_panel=METRICS,
        ),
    ] = None,
    protocol: Annotated[
        Literal["ours", "seer"],
        typer.Option("--protocol", help="Ours, or Seer's: its sampling, given frames, FVD and KVD.", rich_help_panel=METRICS),
    ] = "ours",
    fvd_preset: Annotated[
        Literal["tf", "styleganv", "videogpt", "cdfvd"] | None,
        typer.Option("--fvd-preset", help="Whose FVD.", show_default="videogpt", rich_help_panel=METRICS),
    ] = None,
    i3d: Annotated[
        Path | None,
        typer.Option("--i3d", metavar="FILE", help="I3D weights.", show_default="as fca weights", rich_help_panel=METRICS),
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option("--weights-dir", metavar="DIR", help="Where weights are looked for first.", rich_help_panel=METRICS),
    ] = None,
    ci: Annotated[
        bool,
        typer.Option("--ci/--no-ci", help="Bootstrap intervals of FVD and the like too.", rich_help_panel=METRICS),
    ] = True,
    prepend_given: Annotated[
        bool,
        typer.Option("--prepend-given", help="The true given frames in front of every prediction.", rich_help_panel=METRICS),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a clip that cannot be read.", rich_help_panel=METRICS)
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Score predictions beside copy-last-frame, the unadapted base and the other runs; write a page to look at.

    Examples: fca eval    fca eval --pred theirs/ --real truth/ --given 2
    """
    options.check_exclusive(verbose, quiet)
    about_a_run = (run, checkpoint, split, limit, num, i2v, no_others or None, gpus, processes)
    _check(pred, real, about_a_run, about_folders=(given, out, intersect or None))
    if gpus is not None and device is not None:
        raise Misuse(f"--gpus {gpus} and --device {device} exclude each other", f"fca eval --device {device}")
    if (chosen := launch.layout(gpus, processes, command="eval")) is not None:
        with console.talking(verbose, quiet) as report:
            launch.launch(sys.argv[1:], chosen, report)
        return
    with console.talking(verbose, quiet) as report:
        from fcacli.evaluation.metrics import parse_metrics
        from fcacli.workflows.scoring_plan import Scoring

        scoring = Scoring(
            metrics=parse_metrics(metrics) if metrics else None,
            fvd_preset=fvd_preset,
            i3d=i3d,
            weights_dir=weights_dir,
            intervals=ci,
            protocol=protocol,
            prepend_given=prepend_given,
        )
        if pred is not None and real is not None:
            from fcacli.workflows.evaluate_folders import evaluate_folders

            result = evaluate_folders(
                *(pred, real),
                given=given or 0,
                scoring=scoring,
                intersect=intersect,
                strict=strict,
                device=device,
                out=out,
                report=report,
            )
        else:
            from fcacli.workflows.evaluate import evaluate_run
            from fcacli.workflows.generation import assist

            device = choose_eval_device(Workspace(), run, gpus, device, report)
            with team_of(device, "fca eval") as team:
                if not team.main:
                    assist(Workspace(), device, team)
                    return
                result = evaluate_run(
                    Workspace(),
                    run=run,
                    checkpoint=checkpoint,
                    limit=limit,
                    device=device,
                    split=split or "val",
                    scoring=scoring,
                    samples=num or 1,
                    others=not no_others,
                    i2v=i2v,
                    strict=strict,
                    team=team,
                    report=report,
                )
        if result.folder is not None:
            report(Message(f"report.html and results.json in {options.shown(result.folder)}"))
    if json:
        console.print_json(result.results)
    else:
        console.print_text(result.table)


def _check(pred: Path | None, real: Path | None, about_a_run: tuple[object, ...], about_folders: tuple[object, ...]) -> None:
    """
    Raises:
        Misuse: one folder without the other, or options of a run and of folders together.
    """
    if (pred is None) != (real is None):
        raise Misuse("--pred and --real go together", "fca eval --pred DIR --real DIR")
    if pred is None and any(option is not None for option in about_folders):
        raise Misuse("--given, --intersect and --out go with --pred and --real; a run knows its given frames and its folder")
    if pred is not None and any(option is not None for option in about_a_run):
        raise Misuse(
            "--run, --checkpoint, --split, --limit, --num, --i2v, --no-others, --gpus and --processes are about a run; "
            "--pred and --real score two folders"
        )
