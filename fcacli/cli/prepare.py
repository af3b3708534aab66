"""`fca prepare`: raw videos and labels -> data/<name>/."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.errors import Misuse
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.data.sampling import Form

CLIPS, STORED, READER = "Which clips", "What they become", "Of some layouts"


@command
def prepare(
    reader: Annotated[
        str,
        typer.Argument(
            metavar="READER",
            help="Layout of the raw data: ssv2, bridge, epic-kitchens, ucf101, lerobot or folder.",
            show_default=False,
        ),
    ],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder with the videos and labels.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", help="Name below data/.", show_default="READER, or RAW's for folder")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Decode every clip and write audit.json and audit.html, and no clip.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first clip that cannot be used.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what was prepared under this name with other options.")
    ] = False,
    workers: options.Workers = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Part I of N, each on a machine of its own with this folder shared."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="BASE", help="Encode for this base at once; else the first phase of train does."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option("--split", help="Only this split.", rich_help_panel=CLIPS)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="Take at most so many clips of each split.", rich_help_panel=CLIPS),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option("--filter", metavar="REGEX", help="Only clips whose caption holds this.", rich_help_panel=CLIPS),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=2,
            max=1024,
            help="Keep N frames at equal spacing in time.",
            show_default="all, of clips with 16 or more",
            rich_help_panel=STORED,
        ),
    ] = None,
    init_frames: Annotated[
        int | None,
        typer.Option(
            "--init-frames",
            metavar="N",
            min=1,
            max=1023,
            help="How many of them are given, as the default of training.",
            show_default="what training gives",
            rich_help_panel=STORED,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="WxH",
            help="Width and height in pixels.",
            show_default="the video's, up to 480 high",
            rich_help_panel=STORED,
        ),
    ] = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None,
        typer.Option(
            "--fit", help="How another aspect ratio is brought to --size.", show_default="crop", rich_help_panel=STORED
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="X",
            min=0.1,
            max=240,
            help="Frames per second; with --frames the first N at that rate.",
            show_default="the video's",
            rich_help_panel=STORED,
        ),
    ] = None,
    protocol: Annotated[
        Literal["ours", "seer"],
        typer.Option(
            "--protocol", help="seer: its clips, crop and blended frames, to compare with that paper.", rich_help_panel=STORED
        ),
    ] = "ours",
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera", metavar="NAME", help="Of lerobot and bridge.", show_default="the first", rich_help_panel=READER
        ),
    ] = None,
    fold: Annotated[
        int, typer.Option("--fold", metavar="N", min=1, max=3, help="Which lists of ucf101.", rich_help_panel=READER)
    ] = 1,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help="Load bridge's out.npy, which can run programs.", rich_help_panel=READER),
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring raw videos into one form: data/NAME/{train,val,test}, with an audit of what was found.

    Example: fca prepare ssv2 ./raw
    """
    options.check_exclusive(verbose, quiet)
    form = _form(reader, frames, init_frames, options.parse_size(size), fit, fps, protocol)
    from fcacli.data.readers import ReaderOptions
    from fcacli.workflows import prepare as workflow

    if check and replace:
        raise Misuse("--check replaces no clips", "leave out --replace")
    if base is not None:  # a wrong name is said before the work, not after it
        from fcacli.model.bases import resolve_base

        if check:
            raise Misuse("--check writes no clips that --base could encode", "leave one of them out")
        resolve_base(base)
    asked = workflow.PrepareOptions(
        form=form,
        reader=ReaderOptions(camera=camera, trust_pickle=trust_pickle, fold=fold, protocol=protocol),
        splits=None if split is None else [split],
        limit=limit,
        match=match,
        workers=workers,
        shard=_parse_shard(shard),
        strict=strict,
        replace=replace,
    )
    with console.talking(verbose, quiet) as report:
        run = workflow.check if check else workflow.prepare
        result = run(reader, raw, Workspace(), name=name, options=asked, report=report)
        if base is not None and not result.waiting:
            from fcacli.workflows.encode.ahead import encode_ahead

            encode_ahead(result.folder, base, report=report)
    if json:
        console.print_json(result)
    else:
        console.print_text(options.shown(result.audit if check and result.audit else result.folder))


def _form(
    reader: str,
    frames: int | None,
    init_frames: int | None,
    size: tuple[int, int] | None,
    fit: Literal["crop", "pad", "stretch"] | None,
    fps: float | None,
    protocol: Literal["ours", "seer"],
) -> "Form":
    """What the stored clips are to be; Seer's protocol fills in its own numbers."""
    from fcacli.data.sampling import SEER_FRAMES, SEER_SIZE, Form

    if fit is not None and size is None and protocol == "ours":
        raise Misuse("--fit says how clips are brought to --size", "--size 256x256")
    if protocol == "seer":
        given, all = SEER_FRAMES.get(reader, (1, 16))
        frames, init_frames, size = frames or all, init_frames or given, size or (SEER_SIZE, SEER_SIZE)
    width, height = size or (None, None)
    return Form(
        frames=frames, init_frames=init_frames, width=width, height=height, fit=fit or "crop", fps=fps, protocol=protocol
    )


def _parse_shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    if not (match := re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())):
        raise Misuse(f"--shard takes I/N, part I of N, got {text!r}", "--shard 1/2")
    return int(match[1]), int(match[2])
