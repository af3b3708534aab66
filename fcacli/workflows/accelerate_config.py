"""A file of `accelerate config`, honoured: it says how many processes there are, where, and what their environment is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from fcacli.errors import FcaError, Misuse
from fcacli.workflows.launch import MODULE, Layout

KNOWN = ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP")
"""distributed_type of the files that can be used: the same adapter in every process. With FSDP the frozen base is shared out
among them; the file's other choices for it are about weights that train."""

PRECISIONS: dict[str, Literal["bf16"] | None] = {"no": None, "bf16": "bf16"}
"""--precision by mixed_precision; where the file asks for none, fca's default holds."""


def read_layout(path: Path, gpus: int | None, processes: int | None, nodes: int, rendezvous: str | None) -> Layout:
    """What the file says, under what the command line says.

    Raises:
        Misuse: it is no such file, or asks for what fca does not do.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    if not path.is_file():
        raise Misuse(f"--accelerate-config {path} does not exist", "accelerate config --config_file FILE writes one")
    try:
        config: Any = load_config_from_file(str(path))
    except Exception as error:  # yaml's, json's and accelerate's own
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise Misuse(f"--accelerate-config {path} is no file of `accelerate config`: {reason}") from error
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    if kind not in KNOWN:
        raise Misuse(
            f"--accelerate-config {path} has distributed_type {kind}; fca trains with the same adapter in every process",
            f"one of {', '.join(KNOWN)} there",
        )
    mixed = str(config.mixed_precision or "no")
    if mixed not in PRECISIONS:
        raise Misuse(
            f"--accelerate-config {path} has mixed_precision {mixed}; fca computes in bf16 or fp32",
            f"one of {', '.join(PRECISIONS)} there, or no such line and --precision",
        )
    precision = PRECISIONS[mixed]
    cpu = bool(config.use_cpu) or kind == "MULTI_CPU" or gpus == 0
    machines = nodes if nodes > 1 else config.num_machines or 1
    asked = processes if cpu else gpus
    count = asked or max(1, (config.num_processes or 1) // machines)
    if rendezvous is None and machines > 1 and config.main_process_ip:
        rendezvous = f"{config.main_process_ip}:{config.main_process_port or 29500}"
    more = ["--gpus", "0"] if cpu and gpus is None else []
    more += ["--shard-base"] if kind == "FSDP" and count * machines > 1 else []
    return Layout(
        processes=count,
        nodes=machines,
        rendezvous=rendezvous,
        accelerate_config=path,
        more=(*more, *_as_option(precision)),
        precision=precision,
        device="cpu" if cpu else "cuda",
    )


def _as_option(precision: str | None) -> list[str]:
    return ["--precision", precision] if precision else []


def accelerate_launch(words: Sequence[str], chosen: Layout) -> Callable[[], object]:
    """`accelerate launch` with the file, for the CUDA devices of a machine; on the CPU it would not start several processes."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    arguments = [
        *("--config_file", str(chosen.accelerate_config), "--multi_gpu", "--num_processes", str(chosen.processes)),
        *("--module", MODULE, *words),
    ]
    try:
        parsed = launch_command_parser().parse_args(arguments)
    except SystemExit as error:
        raise FcaError(f"accelerate launch does not take {chosen.accelerate_config}") from error
    return lambda: launch_command(parsed)
