"""`fca plan`: memory, disk and hours of a training, before it starts, or memory of a prediction; takes what decides
`fca train`'s result."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcacli.cli import console, options
from fcacli.cli.border import command
from fcacli.cli.train import as_field, train
from fcacli.errors import Misuse
from fcacli.workflows.train_options import TrainOptions
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.workflows.plan import Planned
    from fcacli.workflows.plan_prediction import PlannedPrediction

ASKED = {field.name for field in fields(TrainOptions)} | {"size", "adapter_set"}
"""Parameters of `train` that say what is trained; the others say how a run goes about it."""
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def _plan(
    gpus: options.Gpus = None,
    gpu_memory: Annotated[
        str | None,
        typer.Option(
            "--gpu-memory",
            metavar="SIZE",
            help="Find the least costly options that fit a card of this size: 12GB, 12GiB, 12000MB. "
            "A GB is a billion bytes; a card sold as 12 GB has about 12GiB, 7 % more.",
            show_default=False,
        ),
    ] = None,
    predict: Annotated[
        bool,
        typer.Option("--predict", help="Plan fca predict instead, by a run of these options, for each --offload of it."),
    ] = False,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="NAME", help="With --predict: by this run below runs/.", show_default=False),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, metavar="N", help="Checkpoints kept.")] = 3,
    nodes: options.Nodes = 1,
    processes: options.Processes = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    **asked: Any,
) -> None:
    """Predict memory, disk and time of a training, without its weights or a GPU; `fca train` takes the same options.

    Traces the real step on tensors without content. With --gpu-memory it prints the `fca train` line that fits.
    """
    options.check_exclusive(verbose, quiet)
    width, height = options.parse_size(asked.pop("size")) or (None, None)
    adapter_fields = dict(as_field(text) for text in asked.pop("adapter_set") or ())
    size = None if gpu_memory is None else parse_bytes("--gpu-memory", gpu_memory)
    wanted = TrainOptions(**asked, width=width, height=height, adapter_fields=adapter_fields)
    if predict:
        if nodes > 1 or processes is not None:
            raise Misuse("a prediction is made by one process", "leave out --nodes and --processes")
        _plan_prediction(wanted, run, gpus, size, json, verbose, quiet)
        return
    if run is not None:
        raise Misuse("--run belongs to --predict", f"fca plan --predict --run {run}")
    from fcacli.workflows.plan import plan as run_plan

    with console.talking(verbose, quiet) as report:
        planned = run_plan(
            *(Workspace(), wanted),
            gpus=gpus,
            processes=processes,
            nodes=nodes,
            gpu_memory=size,
            keep=keep,
            report=report,
        )
    _print(planned, shown(planned), json)


def _plan_prediction(
    wanted: TrainOptions, run: str | None, gpus: int | None, size: int | None, json: bool, verbose: bool, quiet: bool
) -> None:
    from fcacli.workflows.plan_prediction import plan_prediction

    with console.talking(verbose, quiet) as report:
        planned = plan_prediction(Workspace(), wanted, run=run, gpus=gpus, gpu_memory=size, report=report)
    _print(planned, prediction_shown(planned), json)


def _print(planned: "Planned | PlannedPrediction", lines: Iterator[str], json: bool) -> None:
    if json:
        console.print_json(planned)
    else:
        for line in lines:
            console.print_text(line)


def _with_options_of_train(body: Callable[..., None]) -> Callable[..., None]:
    """`body` with those parameters of `train` in the place of its **asked, so that the two cannot differ."""
    own = inspect.signature(body)
    kept = [parameter for parameter in own.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = [parameter for name, parameter in inspect.signature(train).parameters.items() if name in ASKED]
    body.__signature__ = own.replace(parameters=[*kept, *taken])  # type: ignore[attr-defined]
    body.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *taken)}
    return body


plan = command(_with_options_of_train(_plan))


def parse_bytes(option: str, text: str) -> int:
    """Bytes from "12GB", "12GiB" or "12000MB".

    Raises:
        Misuse: it is no size.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([KMGT]I?B)", text.strip().upper())
    if not found or not float(found[1]):
        raise Misuse(f"{option} takes a size with its unit, got {text!r}", f"{option} 12GB")
    return round(float(found[1]) * UNITS[found[2]])


def shown(planned: "Planned") -> Iterator[str]:
    """The plan for a person."""
    memory, config = planned.memory, planned.config
    on_cuda = memory.kind == "cuda"
    each = f", for each of {planned.processes} processes" if planned.processes > 1 else ""
    yield f"{planned.settings()}, {config.steps:,} steps{each}"
    yield f"{'phase':<24}{'device':>10}{'memory':>10}" if on_cuda else f"{'phase':<24}{'memory':>10}"
    for phase in memory.phases:
        whole, least = (phase.device, phase.device_least) if on_cuda else (phase.host, phase.host_least)
        note = phase.note
        if least < whole:
            note = f"{phase.otherwise}; {f'{note} ' if note else ''}{_gb(whole)} where there is room"
        sizes = f"{_gb(phase.device_least):>10}{_gb(phase.host):>10}" if on_cuda else f"{_gb(phase.host_least):>10}"
        yield f"{phase.name:<24}{sizes}  {note}".rstrip()
    yield f"through training: {', '.join(f'{name} {_gb(size)}' for name, size in memory.parts.items())}"
    yield from planned.allowances()
    kept = f"checkpoints {_gb(planned.disk.checkpoints)}"
    yield f"disk: {kept}; encodings: {planned.disk.encodings_said}"
    if planned.hours is None:
        yield f"hours: not known; no run here has measured such a step ({config.steps:,} steps)"
    else:
        yield f"hours: {planned.hours:.1f} for {config.steps:,} steps, by the speed of a run here; validations not counted"
    yield planned.command


def prediction_shown(planned: "PlannedPrediction") -> Iterator[str]:
    """The plan of a prediction for a person: a column for each --offload, of the device and of main memory."""
    plans = list(planned.memory.values())
    on_cuda = plans[0].kind == "cuda"
    places = ("device", "memory") if on_cuda else ("memory",)
    yield f"{'phase':<24}" + "".join(f"{place:>11}{'':>{11 * (len(plans) - 1)}}" for place in places).rstrip()
    if on_cuda:
        yield f"{'--offload':<24}" + "".join(f"{how:>11}" for how in (*planned.memory, *planned.memory))
    for phases in zip(*(memory.phases for memory in plans), strict=True):
        first = phases[0]
        less = f"  {first.otherwise}; {_gb(first.device)} where there is room" if first.device_least < first.device else ""
        sizes = [phase.device_least for phase in phases] * on_cuda + [phase.host for phase in phases]
        yield f"{first.name:<24}" + "".join(f"{_gb(size):>11}" for size in sizes) + less
    if on_cuda:
        yield f"{'card, with allowances':<24}" + "".join(f"{_gb(card):>11}" for card in planned.cards.values())
    yield from planned.allowances()
    if planned.training is not None:
        yield f"by a run of: {planned.training}"
    yield planned.command


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
