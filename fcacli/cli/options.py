"""Option types that several commands share, and the parsing that typer does not do."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fcacli.config import Sampler
from fcacli.errors import Misuse

OUTPUT = "Output"
WHERE = "Which"
SAMPLING = "Sampling"
CLIP = "Clip"
SEVERAL = "Several processes"

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.", rich_help_panel=OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.", rich_help_panel=OUTPUT)]

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="BASE",
        help="auto, mini, cogvideox-2b, cogvideox-5b, cogvideox1.5-5b, a hub id, or a folder in diffusers layout.",
        show_default="auto",
        rich_help_panel=WHERE,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="NAME", help="Prepared dataset below data/.", show_default="the latest", rich_help_panel=WHERE
    ),
]
Run = Annotated[
    str | None,
    typer.Option("--run", metavar="NAME", help="Run below runs/.", show_default="the latest", rich_help_panel=WHERE),
]
Checkpoint = Annotated[
    str | None,
    typer.Option("--checkpoint", metavar="NAME", help="Checkpoint of the run.", show_default="the last", rich_help_panel=WHERE),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        min=0,
        help="CUDA devices to use, 0 for the CPU; mini trains on the CPU where there is none.",
        show_default="1 if there is one",
        rich_help_panel=WHERE,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ...", show_default="cuda if there is one", rich_help_panel=WHERE
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all that is random.")]
SampleSteps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Denoising steps.", show_default="the run's", rich_help_panel=SAMPLING),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="X",
        min=0.0,
        help="Classifier-free guidance; 1 for none.",
        show_default="the run's",
        rich_help_panel=SAMPLING,
    ),
]
SamplerChoice = Annotated[
    Sampler | None,
    typer.Option(
        "--sampler",
        help="The base's own scheduler, or new noise at every step.",
        show_default="the run's",
        rich_help_panel=SAMPLING,
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Run the transformer's blocks through torch.compile.",
        show_default="as the run was trained",
        rich_help_panel=SAMPLING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Processes that decode videos.", show_default="one per core"),
]
AS_PREPARED = "as prepared, or the base's"
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Width and height in pixels.", show_default=AS_PREPARED, rich_help_panel=CLIP),
]


def by_base(
    flag: str, panel: str, help: str, default: str = "the base's", least: float | None = None, metavar: str | None = None
) -> Any:
    """An option that may be left out, with what is taken then shown in the help; `least` is the smallest value allowed."""
    return typer.Option(flag, help=help, show_default=default, min=least, metavar=metavar, rich_help_panel=panel)


Nodes = Annotated[
    int, typer.Option("--nodes", min=1, metavar="M", help="Machines, each with --gpus devices.", rich_help_panel=SEVERAL)
]
Processes = Annotated[
    int | None, by_base("--processes", SEVERAL, "With --gpus 0: processes on the CPU.", default="1", metavar="N", least=1)
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height from "480x320".

    Raises:
        Misuse: it is not two whole numbers joined by an x.
    """
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())):
        raise Misuse(f"--size takes WIDTHxHEIGHT in pixels, got {text!r}", "--size 720x480")
    return int(match[1]), int(match[2])


def check_exclusive(verbose: bool, quiet: bool) -> None:
    """-v and -q say opposite things.

    Raises:
        Misuse: both are given.
    """
    if verbose and quiet:
        raise Misuse("--verbose and --quiet exclude each other", "one of the two, or neither")


def shown(path: Path) -> str:
    """A path as short as it can be written from here."""
    try:
        return str(path.relative_to(Path.cwd())) or "."
    except ValueError:
        return str(path)
