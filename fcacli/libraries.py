"""How the libraries behave in a process of fca's own: quietly, on two cores beside others, and without a word to anyone."""

import logging
import os
import sys
import warnings


def debugging() -> bool:
    """True where the user asked for tracebacks."""
    return os.environ.get("FCA_DEBUG", "") not in ("", "0")


def quiet_libraries() -> None:
    """Silence the libraries' own bars, banners and warnings; with FCA_DEBUG=1 they keep talking.

    Environment variables, because the libraries are imported later and in worker processes; what the user set stays.
    Code from a model repository is never run, nor kernels from the hub, which bitsandbytes would fetch when it is imported
    where the package `kernels` is installed, and nothing is told to anyone about the use of this program. OpenMP threads
    wait awake for a moment, then asleep: ones that spin on make torch 40 times slower as soon as another program uses one of
    the cores; ones that sleep at once cost a training step of the miniature on two quiet cores 38 % more.
    """
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]   # as if it were not installed
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in NO_TELEMETRY:
        os.environ.setdefault(name, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if debugging():
        return
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


NO_TELEMETRY = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_UPDATE_CHECK")
"""Variables by which the hub's libraries are told to report nothing."""
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "OPENCV_LOG_LEVEL": "OFF",
    "TORCH_CPP_LOG_LEVEL": "FATAL",
}
"""Variables that the libraries read when they are imported."""
NOISY = ("accelerate", "bitsandbytes", "huggingface_hub", "peft", "torch")
"""Loggers whose warnings are about the installation, not about what the user asked for."""
