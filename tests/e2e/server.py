"""Forks `fca` commands from a process that has torch and diffusers imported already: seconds less for each of them.

What it forks is a process like any other: its own pid, session, folder and output files; it runs `fcacli.cli.app.main` on
its words and ends as Python ends, but for the freeing of memory. Before that it may arm faults (faults.py). Requests and
answers are lines of JSON:

    {"words": [...], "folder": "...", "output": "...", "environment": {...}, "faults": [[name, values], ...]}  ->  pid
    {"poll": pid}                             ->  null while it runs, else its exit status as subprocess has it
"""

import atexit
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

PRELOADED = (
    *("accelerate", "bitsandbytes", "cv2", "av", "peft", "safetensors.torch", "torch.utils.tensorboard", "rich.progress"),
    *("transformers.models.t5.modeling_t5", "transformers.models.clip.modeling_clip"),
    *("diffusers.models.autoencoders.autoencoder_kl_cogvideox", "diffusers.models.transformers.cogvideox_transformer_3d"),
    *("diffusers.pipelines.cogvideo.pipeline_cogvideox", "diffusers.schedulers.scheduling_ddim_cogvideox"),
    *("fcacli.cli.app", "fcacli.training.loop", "fcacli.model.bases.cogvideox", "fcacli.model.attach"),
    *(f"fcacli.workflows.{name}" for name in ("prepare", "train", "predict", "evaluate", "validation", "encode.ahead")),
)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from fcacli.libraries import quiet_libraries

    quiet_libraries()
    for name in PRELOADED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), file=answers)
            continue
        if (pid := os.fork()) == 0:
            answers.close()
            become(request)
        print(json.dumps(pid), file=answers)
    os._exit(0)


def become(request: dict[str, Any]) -> NoReturn:
    """Turn this fork into a process of its own that runs one command."""
    import faults

    from fcacli.cli.app import main as fca

    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(request["folder"])
    for descriptor, path in ((0, os.devnull), (1, request["output"] + ".out"), (2, request["output"] + ".err")):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = os.fdopen(0)
    os.environ.update(request["environment"])
    for name, values in request["faults"]:
        getattr(faults, name)(**values)
    sys.argv = ["fca", *request["words"]]
    try:
        fca()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main()
