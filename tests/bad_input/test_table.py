"""What a user can get wrong, a row each: what was typed, or which file is wrong -> exit status and the words of the message.

Status 2: an option or argument that cannot be right whatever the files hold. Status 1: everything else. Words behind TRY
stand in the hint, the next thing to do. The rows of OPTIONS and FILES are run in a folder where everything is right but that.
"""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from spoiled_stage import Stage, write_labels
from typer.main import get_command
from typer.testing import CliRunner

from fcacli.cli.app import app

TRY = "TRY"
NEW = "train --new --gpus 0 --base {base}"

OF_PLAN = {
    *("--data", "--adapter", "--adapter-width", "--lora-rank", "--set", "--init-frames", "--size", "--fit", "--fps", "--steps"),
    *("--lr", "--batch-size", "--accumulate", "--warmup", "--weight-decay", "--clip-norm", "--caption-dropout", "--optimizer"),
    *("--precision", "--seed", "--validate-every", "--validate-clips", "--sample-steps", "--guidance"),
    *("--timestep-power", "--sampler"),
}
"""Options of train whose wrong values are as wrong for plan."""
OPTIONS = [
    # typed                                        status, words of the message
    ("nonsense", 2, "No such command 'nonsense'"),
    ("--colour", 2, "No such option: --colour"),
    # ---- prepare
    ("prepare", 2, "Missing argument 'READER'"),
    ("prepare ssv2", 2, "Missing argument 'RAW'"),
    ("prepare ssv3 frames", 2, "there is no reader 'ssv3'; known: ssv2, bridge", TRY, "fca prepare ssv2"),
    ("prepare epic frames", 2, "there is no reader 'epic'", TRY, "fca prepare epic-kitchens frames"),
    ("prepare lerobots frames", 2, "there is no reader 'lerobots'", TRY, "fca prepare lerobot frames"),
    ("prepare /tmp/x/raw ssv2", 2, "the reader comes first, then the folder: '/tmp/x/raw'", TRY, "fca prepare ssv2 /tmp/x/raw"),
    ("prepare raw folder", 2, "the reader comes first", "'raw' is no reader", TRY, "fca prepare folder raw"),
    ("prepare frames data", 2, "the reader comes first", "none of ssv2, bridge", TRY, "fca prepare ssv2 frames"),
    ("prepare {long} frames", 2, "there is no reader"),
    ("prepare ssv2 nowhere", 1, "nowhere does not exist", TRY, "fca prepare ssv2 FOLDER"),
    ("prepare ssv2 given.mp4", 1, "given.mp4 is not a folder", TRY, "fca prepare ssv2 FOLDER"),
    ("prepare ssv2 {long}", 1, "File name too long"),
    ("prepare ssv2 frames --name a/b", 2, "--name takes a plain name", "'a/b'"),
    ("prepare ssv2 frames --name ../x", 2, "--name takes a plain name", "'../x'"),
    ("prepare ssv2 frames --name -x", 2, "--name takes a plain name"),
    ("prepare ssv2 frames --name ''", 2, "--name takes a plain name"),
    ("prepare ssv2 frames --limit 0", 2, "--limit"),
    ("prepare ssv2 frames --limit two", 2, "--limit"),
    ("prepare ssv2 frames --split dev", 2, "--split", "'dev' is not one of 'train', 'val', 'test'"),
    ("prepare ssv2 frames --workers 0", 2, "--workers"),
    ("prepare ssv2 frames --workers 1.5", 2, "--workers"),
    ("prepare ssv2 frames --frames 1", 2, "--frames"),
    ("prepare ssv2 frames --frames 4096", 2, "--frames"),
    ("prepare ssv2 frames --init-frames 0", 2, "--init-frames"),
    ("prepare ssv2 frames --frames 8 --init-frames 8", 2, "--init-frames must be below --frames 8, got 8"),
    ("prepare ssv2 frames --size 256", 2, "--size takes WIDTHxHEIGHT in pixels, got '256'", TRY, "--size 720x480"),
    ("prepare ssv2 frames --size 8x8", 2, "--size must be between 16x16 and 4096x4096, got 8x8"),
    ("prepare ssv2 frames --fit pad", 2, "--fit says how clips are brought to --size", TRY, "--size 256x256"),
    ("prepare ssv2 frames --fit blur --size 64x64", 2, "--fit", "'blur' is not one of 'crop', 'pad', 'stretch'"),
    ("prepare ssv2 frames --fps 0", 2, "--fps"),
    ("prepare ssv2 frames --fps nan", 2, "--fps"),
    ("prepare ssv2 frames --protocol theirs", 2, "--protocol", "'theirs' is not one of 'ours', 'seer'"),
    ("prepare ssv2 frames --protocol seer --fps 5", 2, "--protocol seer takes the whole action", "no --fps"),
    ("prepare ssv2 frames --protocol seer --size 320x240", 2, "--protocol seer takes the whole action", "a square --size"),
    ("prepare ssv2 frames --filter (", 2, "--filter '(' is not a regular expression", TRY, "--filter 'push|pull'"),
    ("prepare ssv2 frames --shard 3", 2, "--shard takes I/N, part I of N, got '3'", TRY, "--shard 1/2"),
    ("prepare ssv2 frames --shard 3/2", 2, "--shard takes I/N with I from 1 to N, got 3/2", TRY, "--shard 1/2"),
    ("prepare ssv2 frames --check --shard 1/2", 2, "--check looks at the whole: leave out --shard"),
    ("prepare ssv2 frames --check --replace", 2, "--check replaces no clips", TRY, "leave out --replace"),
    ("prepare ssv2 frames --check --base mini", 2, "--check writes no clips that --base could encode"),
    ("prepare ssv2 frames --camera wrist", 2, "--camera is for bridge, lerobot, not for ssv2"),
    ("prepare ssv2 frames --fold 2", 2, "--fold is for ucf101, not for ssv2"),
    ("prepare ucf101 frames --fold 4", 2, "--fold"),
    ("prepare ssv2 frames --trust-pickle", 2, "--trust-pickle is for bridge, not for ssv2"),
    ("prepare ssv2 frames --base nonsense", 2, "unknown base 'nonsense'", "mini, cogvideox-2b", TRY, "--base cogvideox-2b"),
    ("prepare ssv2 frames --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    # ---- train
    ("train --gpus -1", 2, "--gpus"),
    ("train --gpus 99", 2, "--gpus 99", TRY, "fca train --gpus"),
    ("train --gpus 0 --base nonsense --new", 2, "unknown base 'nonsense'", TRY, "--base cogvideox-2b"),
    ("train --gpus 0 --base cogvideox5b --new", 2, "unknown base 'cogvideox5b'", TRY, "--base cogvideox-5b"),
    ("train --gpus 0 --base cogvideo --new", 2, "unknown base 'cogvideo'", TRY, "--base cogvideox-2b"),
    ("train --gpus 0 --base minni --new", 2, "unknown base 'minni'", TRY, "--base mini"),
    ("train --gpus 0 --base frames --new", 1, "no model_index.json", TRY, "--base takes a folder with model_index.json"),
    ("train --gpus 0 --base ../../x/y --new", 2, "unknown base '../../x/y'"),
    (f"{NEW} --data other", 1, "no prepared dataset 'other'", "there: toy", TRY, "fca prepare"),
    (f"{NEW} --data ../data/toy", 2, "--data takes a plain name"),
    (f"{NEW} --adapter ia3", 2, "--adapter", "'ia3' is not one of 'fca', 'lora'"),
    (f"{NEW} --adapter-width 0", 2, "--adapter-width"),
    (f"{NEW} --adapter-width 33", 2, "--adapter-width 33 is not a multiple of 16"),
    (f"{NEW} --adapter-width 48", 2, "--adapter-width 48 is not a multiple of 16, the base's head width, up to 32"),
    (f"{NEW} --adapter lora --adapter-width 32", 2, "--adapter-width belongs to --adapter fca", TRY, "leave it out"),
    (f"{NEW} --lora-rank 4", 2, "--lora-rank belongs to --adapter lora", TRY, "--adapter lora"),
    (f"{NEW} --adapter lora --lora-rank 0", 2, "--lora-rank"),
    (f"{NEW} --adapter lora --lora-rank 99999", 2, "--lora-rank must be between 1 and 16,384"),
    (f"{NEW} --set modulation", 2, "--set takes FIELD=VALUE, got 'modulation'", TRY, "--set modulation=block"),
    (f"{NEW} --set =x", 2, "--set takes FIELD=VALUE"),
    (f"{NEW} --set colour=red", 2, "unknown field colour", TRY, "tokens_per_frame"),
    (f"{NEW} --set mask=some", 2, "mask is 'some'; expected one of 'frame', 'none'"),
    (f"{NEW} --set text_width=wide", 2, "text_width is 'wide'; expected int"),
    (f"{NEW} --set text_width=15", 2, "text_width 15 is not a multiple of text_heads"),
    (f"{NEW} --set tokens_per_frame=1000000000", 2, "tokens_per_frame must be between 1 and 4,096"),
    (f"{NEW} --set text_blocks=1000000", 2, "text_blocks must be between 1 and 64"),
    (f"{NEW} --set init_timestep=-1", 2, "init_timestep must be between 0 and 999"),
    (f"{NEW} --set kind=lora", 2, "unknown field"),
    (f"{NEW} --set init_features=none --set text_modules=none", 2, "has nothing to attend to"),
    (f"{NEW} --adapter lora --set alpha=-1", 2, "LoRA alpha must be above 0"),
    (f"{NEW} --adapter lora --set init=in_place", 2, "in_place"),
    (f"{NEW} --frames 1", 2, "--frames"),
    (f"{NEW} --frames 99999", 2, "--frames must be between 2 and 1,024"),
    (f"{NEW} --frames 200", 1, "no train clip of", "has the 200 frames needed", TRY, "--frames"),
    (f"{NEW} --init-frames 0", 2, "--init-frames"),
    (f"{NEW} --init-frames 16", 2, "--init-frames must be between 1 and frames - 1 = 15, got 16"),
    (f"{NEW} --size 48", 2, "--size takes WIDTHxHEIGHT in pixels, got '48'", TRY, "--size 720x480"),
    (f"{NEW} --size 8x8", 2, "--size must be between 16x16 and 4096x4096, got 8x8"),
    (f"{NEW} --size 99999x99999", 2, "--size must be between 16x16 and 4096x4096"),
    (f"{NEW} --size 36x32", 2, "width 36 is not a multiple of 8", TRY, "take 32"),
    (f"{NEW} --fit squeeze", 2, "--fit", "'squeeze' is not one of 'crop', 'pad', 'stretch'"),
    (f"{NEW} --fps 0", 2, "--fps must be between 0.1 and 240, got 0"),
    (f"{NEW} --fps nan", 2, "--fps must be between 0.1 and 240, got nan"),
    (f"{NEW} --fps fast", 2, "--fps"),
    (f"{NEW} --steps 0", 2, "--steps"),
    (f"{NEW} --lr 0", 2, "--lr must be above 0, got 0"),
    (f"{NEW} --lr -1e-4", 2, "--lr must be above 0"),
    (f"{NEW} --lr inf", 2, "--lr must be above 0, got inf"),
    (f"{NEW} --text-lr-scale -1", 2, "--text-lr-scale"),
    (f"{NEW} --text-lr-scale 101", 2, "--text-lr-scale must be between 0 and 100, got 101"),
    (f"{NEW} --adapter lora --text-lr-scale 1", 2, "--text-lr-scale belongs to --adapter fca"),
    (f"{NEW} --batch-size 0", 2, "--batch-size"),
    (f"{NEW} --batch-size 1000000000", 2, "--batch-size must be between 1 and 65,536"),
    (f"{NEW} --accumulate 0", 2, "--accumulate"),
    (f"{NEW} --accumulate 1000000000", 2, "--accumulate must be between 1 and 65,536"),
    (f"{NEW} --warmup -1", 2, "--warmup"),
    (f"{NEW} --weight-decay -1", 2, "--weight-decay"),
    (f"{NEW} --weight-decay inf", 2, "--weight-decay must be between 0 and 1"),
    (f"{NEW} --clip-norm 0", 2, "--clip-norm must be above 0"),
    (f"{NEW} --caption-dropout 1", 2, "--caption-dropout must be in [0, 1)"),
    (f"{NEW} --optimizer sgd", 2, "--optimizer", "'sgd' is not one of"),
    (f"{NEW} --base-weights int4", 2, "--base-weights", "'int4' is not one of 'full', 'fp8', 'int8', 'nf4'"),
    (f"{NEW} --block-swap -1", 2, "--block-swap"),
    (f"{NEW} --block-swap 1001", 2, "--block-swap must be between 0 and 1,000, got 1001"),
    (f"{NEW} --checkpointing --block-swap 9", 2, "--block-swap 9", "has 2 blocks"),
    (f"{NEW} --no-checkpointing --block-swap 1", 2, "need --checkpointing", TRY, "add --checkpointing"),
    (f"{NEW} --no-checkpointing --offload-activations", 2, "need --checkpointing", TRY, "add --checkpointing"),
    (f"{NEW} --shard-base", 2, "shares the frozen base out among processes, and this is one", TRY, "--gpus 2"),
    (f"{NEW} --checkpointing --shard-base --block-swap 1", 2, "does not go together with --block-swap", TRY, "one of the two"),
    (f"{NEW} --vae-tiling 2", 2, "unexpected extra argument"),
    (f"{NEW} --offload-gradients 2", 2, "unexpected extra argument"),
    (f"{NEW} --deterministic 2", 2, "unexpected extra argument"),
    (f"{NEW} --compile 2", 2, "unexpected extra argument"),
    (f"{NEW} --precision fp16", 2, "--precision", "'fp16' is not one of"),
    (f"{NEW} --weights fp16", 2, "--weights", "'fp16' is not one of"),
    (f"{NEW} --weights bf16 --precision fp32", 2, "--weights bf16 is for steps in bf16", TRY, "--precision bf16, or --weights"),
    (f"{NEW} --optimizer paged-adamw8bit", 2, "and this is the CPU", TRY, "--optimizer adamw8bit"),
    (f"{NEW} --optimizer paged-adamw8bit --offload-optimizer", 2, "two ways to the same end", TRY, "or paged-adamw8bit alone"),
    (f"{NEW} --seed -1", 2, "--seed"),
    (f"{NEW} --seed 99999999999999999999", 2, "--seed must be between 0 and 2^63 - 1"),
    (f"{NEW} --validate-every -1", 2, "--validate-every"),
    (f"{NEW} --validate-clips -1", 2, "--validate-clips"),
    (f"{NEW} --sample-steps 0", 2, "--sample-steps"),
    (f"{NEW} --sample-steps 5000", 2, "sampling steps must be between 1 and 1,000"),
    (f"{NEW} --guidance -1", 2, "--guidance"),
    (f"{NEW} --sampler ddim", 2, "--sampler", "'ddim' is not one of 'base', 'fresh-noise'"),
    (f"{NEW} --timestep-power 0", 2, "--timestep-power"),
    (f"{NEW} --timestep-power 11", 2, "--timestep-power must be between 0.1 and 10, got 11"),
    (f"{NEW} --timestep-power nan", 2, "--timestep-power"),
    (f"{NEW} --guidance inf", 2, "guidance must be between 0 and 1,000, got inf"),
    (f"{NEW} --checkpoint-minutes 0", 2, "--checkpoint-minutes"),
    (f"{NEW} --max-minutes -1", 2, "--max-minutes"),
    (f"{NEW} --keep 0", 2, "--keep"),
    (f"{NEW} --workers -1", 2, "--workers"),
    (f"{NEW} --run a/b", 2, "--run takes a plain name"),
    ("train --gpus 99", 2, "--gpus 99, but", "available here", TRY, "fca train --gpus"),
    (
        "train --gpus 0 --nodes 2",
        2,
        "--nodes 2: the machines have to know where to meet",
        TRY,
        "--rendezvous",
        "--print-launch",
    ),
    ("train --gpus 0 --nodes 2 --rendezvous no.invalid:4000", 1, "no.invalid is no host that is known here", TRY),
    ("train --gpus 2 --nodes 2 --print-launch --base nonsense", 2, "unknown base 'nonsense'", TRY, "--base cogvideox-2b"),
    (
        "train --gpus 2 --new --print-launch --offload-gradients",
        2,
        "--offload-gradients is for one process, and these are 2",
        TRY,
    ),
    ("train --gpus 2 --new --print-launch --precision fp32", 2, "CogVideoX-2b is held in bfloat16 on a GPU", TRY, "--gpus 0"),
    ("train --gpus 0 --nodes 0", 2, "--nodes"),
    ("train --gpus 0 --nodes 2 --rendezvous node1", 2, "--rendezvous takes HOST:PORT", "'node1'", TRY, "node1:29500"),
    ("train --gpus 0 --nodes 2 --rendezvous node1:99999", 2, "--rendezvous takes HOST:PORT, got 'node1:99999'"),
    ("train --gpus 0 --rendezvous node1:1", 2, "where machines meet, and this is one", TRY, "--nodes 2 --rendezvous node1:1"),
    ("train --gpus 1 --processes 2", 2, "--processes is for the CPU", TRY, "fca train --gpus 0 --processes 2"),
    ("train --gpus 0 --processes 0", 2, "--processes"),
    ("train --accelerate-config nowhere", 2, "--accelerate-config nowhere does not exist", TRY, "accelerate config"),
    ("train --accelerate-config given.mp4", 2, "is no file of `accelerate config`"),
    (f"{NEW} --run first", 1, "run 'first' exists already", TRY, "choose another --run name"),
    ("train --gpus 0 --fork nowhere", 1, "no run 'nowhere'", "there: first", TRY, "--fork first"),
    ("train --gpus 0 --fork ../first", 2, "--fork takes a plain name"),
    ("train --gpus 0 --run first --steps 99", 2, "run first is unfinished", "steps: 4 -> 99", TRY, "--new", "--fork"),
    ("train --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    # ---- predict
    ("predict", 2, "Missing argument 'FRAMES'"),
    ("predict frames", 2, "Missing argument 'TEXT'"),
    ("predict frames ''", 2, "the text is empty", TRY, "fca predict frames/"),
    ("predict nowhere text", 1, "nowhere does not exist", TRY, "give a folder of pictures, a video file or a picture"),
    ("predict {long} text", 1, "File name too long"),
    ("predict runs/first/config.json text", 1, "neither a picture nor a video by its suffix '.json'"),
    ("predict runs text", 1, "runs", "it holds no pictures"),
    ("predict {videos} text", 1, "videos and no pictures", TRY, "fca predict data/toy/val/videos/", ".mp4 TEXT"),
    ("predict frames/0.png text", 1, "holds 1 frame, 2 initial frames are needed", TRY, "fca train --init-frames 1"),
    ("predict frames text --run other", 1, "no run 'other'", "there: first", TRY, "--run first"),
    ("predict frames text --run a/b", 2, "--run takes a plain name", "'a/b'"),
    ("predict frames text --checkpoint 3", 1, "no checkpoint '3'", "step-000002, step-000004", TRY, "without --checkpoint"),
    ("predict frames text --checkpoint ../../x", 1, "no checkpoint '../../x'"),
    ("predict frames text --device tpu", 2, "--device tpu", TRY, "--device cpu"),
    ("predict frames text --device cuda:77", 2, "--device cuda:77", TRY, "--device cpu"),
    ("predict frames text --device meta", 2, "--device meta", TRY, "--device cpu"),
    ("predict frames text --steps 0", 2, "--steps"),
    ("predict frames text --steps 2000", 2, "sampling steps must be between 1 and 1,000, got 2000"),
    ("predict frames text --guidance -1", 2, "--guidance"),
    ("predict frames text --sampler ddim", 2, "--sampler", "'ddim' is not one of 'base', 'fresh-noise'"),
    ("predict frames text --guidance nan", 2, "guidance"),
    ("predict frames text --guidance inf", 2, "guidance must be between 0 and 1,000, got inf"),
    ("predict frames text --num 0", 2, "--num"),
    ("predict frames text --num 1000000000", 2, "--num"),
    ("predict frames text --seed -1", 2, "--seed"),
    ("predict frames text --seed 9223372036854775807 --num 2", 2, "--seed must be between 0 and 2^63 - 1"),
    ("predict frames text --compile 2", 2, "unexpected extra argument"),
    ("predict frames text --offload disk", 2, "--offload", "'disk' is not one of"),
    ("predict frames text --device cpu --offload model", 2, "this is the CPU", TRY, "--offload none"),
    ("predict frames text --out given.mp4", 1, "--out given.mp4 exists and holds something else", TRY, "another --out"),
    ("predict frames text --out runs", 1, "--out runs exists and holds something else", TRY, "another --out"),
    ("predict frames text --out given.mp4/below", 1, "cannot write given.mp4/below:", TRY, "a folder that you may"),
    ("predict frames text --out /proc/x", 1, "cannot write /proc/x:", TRY, "a folder that you may write to"),
    ("predict frames text --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    # ---- eval
    ("eval --run other", 1, "no run 'other'", "there: first", TRY, "--run first"),
    ("eval --run a/b", 2, "--run takes a plain name"),
    ("eval --checkpoint 3", 1, "no checkpoint '3'"),
    ("eval --split test", 1, "holds no test clips", TRY, "fca prepare"),
    ("eval --split dev", 2, "--split", "'dev' is not one of"),
    ("eval --limit 0", 2, "--limit"),
    ("eval --device tpu", 2, "--device tpu", TRY, "--device cpu"),
    ("eval --gpus 1 --device cpu", 2, "--gpus 1 and --device cpu exclude each other", TRY, "fca eval --device cpu"),
    ("eval --gpus -1", 2, "--gpus"),
    ("eval --processes 2", 2, "--processes is for the CPU", TRY, "fca eval --gpus 0 --processes 2"),
    ("eval --gpus 0 --processes 0", 2, "--processes"),
    ("eval --pred {videos} --real {videos} --gpus 0", 2, "are about a run"),
    ("eval --pred frames", 2, "--pred and --real go together", TRY, "fca eval --pred DIR --real DIR"),
    ("eval --real frames", 2, "--pred and --real go together"),
    ("eval --given 2", 2, "--given, --intersect and --out go with --pred and --real"),
    ("eval --intersect", 2, "--given, --intersect and --out go with --pred and --real"),
    ("eval --out there", 2, "--given, --intersect and --out go with --pred and --real"),
    ("eval --num 0", 2, "--num"),
    ("eval --no-others --pred {videos} --real {videos}", 2, "are about a run"),
    ("eval --i2v nowhere", 2, "--i2v nowhere: not a folder, a hub id", TRY, "--i2v cogvideox-5b-i2v"),
    ("eval --i2v frames", 1, "is no pipeline in diffusers layout"),
    ("eval --i2v {base}", 1, "is CogVideoXPipeline; a CogVideoXImageToVideoPipeline is needed"),
    ("eval --metrics fdv", 2, "there is no metric 'fdv'; known: psnr, ssim", TRY, "fca eval --metrics psnr,fvd"),
    ("eval --metrics ,", 2, "--metrics names no metric"),
    ("eval --metrics lpips --weights-dir frames", 1, "LPIPS cannot be computed: no lpips", TRY, "fca weights"),
    ("eval --weights-dir nowhere", 1, "--weights-dir nowhere is not a folder"),
    ("eval --i3d nowhere.pt", 1, "--i3d nowhere.pt is not a file", TRY, "fca weights"),
    ("eval --fvd-preset pytorch", 2, "--fvd-preset", "'pytorch' is not one of"),
    ("eval --protocol theirs", 2, "--protocol", "'theirs' is not one of"),
    ("eval --protocol seer --fvd-preset tf", 2, "--fvd-preset tf is another protocol"),
    ("eval --protocol seer", 1, "prepared with --protocol seer", TRY, "fca prepare"),
    ("eval --pred {videos} --real {videos} --prepend-given", 2, "--given", TRY, "--given 2"),
    ("eval --pred nowhere --real frames", 1, "--pred nowhere does not exist", TRY, "fca eval --pred DIR --real DIR"),
    ("eval --pred given.mp4 --real frames", 1, "--pred given.mp4 is not a folder"),
    ("eval --pred {videos} --real runs", 1, "--real runs holds no videos", TRY, "fca eval"),
    ("eval --pred {videos} --real {videos} --given -1", 2, "--given"),
    ("eval --pred {videos} --real {videos} --given 99", 1, "20 frames, of which 99 are given"),
    (
        "eval --pred {videos} --real {videos} --run first",
        2,
        "--run, --checkpoint, --split, --limit, --num, --i2v, --no-others, --gpus and --processes are about a run",
    ),
    ("eval --pred {videos} --real {videos} --split val", 2, "are about a run"),
    ("eval --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    # ---- compare
    ("compare", 2, "Missing argument 'RESULTS"),
    ("compare nowhere first", 1, "no run 'nowhere'", "there: first", TRY, "fca compare first"),
    ("compare ../first", 1, "../first does not exist", TRY, "fca compare RUN ANOTHER-RUN"),
    ("compare -- -x", 2, "fca compare takes a plain name", "'-x'"),
    ("compare {long}", 1, "File name too long"),
    ("compare first first", 2, "first is named twice", TRY, "fca compare RUN ANOTHER-RUN"),
    ("compare frames", 1, "frames has not been evaluated: it holds no results.json", TRY, "fca eval"),
    ("compare given.mp4 first", 1, "cannot read given.mp4"),
    ("compare runs/first/config.json first --anyway", 1, "config.json is no results file", TRY, "fca eval writes"),
    ("compare first --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    # ---- demo, toy, doctor, completions
    ("demo given.mp4", 1, "given.mp4"),
    ("demo --seed -1", 2, "--seed"),
    ("demo --clips 7", 2, "--clips"),
    ("demo --steps 0", 2, "--steps"),
    ("demo --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    ("benchmark given.mp4", 1, "given.mp4 exists and holds something else", TRY, "fca benchmark ANOTHER-FOLDER"),
    ("benchmark frames", 1, "frames exists and holds something else", TRY, "fca benchmark ANOTHER-FOLDER"),
    ("benchmark b --only ia3", 2, "--only ia3: there is no such arm", TRY, "fca, lora-64"),
    ("benchmark b --gpus -1", 2, "--gpus"),
    ("benchmark b --gpus 99", 2, "--gpus 99"),
    ("benchmark b --steps 0", 2, "--steps"),
    ("benchmark b --seeds 0", 2, "--seeds"),
    ("benchmark b --clips 0", 2, "--clips"),
    ("benchmark b --scored 0", 2, "--scored"),
    ("benchmark b --sample-steps 0", 2, "--sample-steps"),
    ("benchmark b --sample-steps 5000", 2, "--sample-steps"),
    ("benchmark b --processes 0", 2, "--processes"),
    ("benchmark b --minutes -1", 2, "--minutes"),
    ("benchmark b --minutes soon", 2, "--minutes"),
    ("benchmark b --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    ("toy", 2, "Missing argument 'OUT'"),
    ("toy runs", 1, "runs is not empty", TRY, "choose an empty or a new folder"),
    ("toy given.mp4", 1, "given.mp4"),
    ("toy out --clips 0", 2, "--clips"),
    ("toy out --clips 1", 2, "--clips"),
    ("toy out --seed x", 2, "--seed"),
    ("toy out --size 15", 2, "--size"),
    ("toy out --size 17", 2, "--size must be even, got 17", TRY, "--size 18"),
    ("toy out --size 100000", 2, "--size"),
    ("toy out --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    ("weights --fetch vmaf", 2, "--fetch vmaf: there are no such weights", TRY, "lpips-trunk"),
    ("weights --weights-dir nowhere", 1, "--weights-dir nowhere is not a folder", TRY, "fca weights"),
    ("weights --weights-dir given.mp4", 1, "--weights-dir given.mp4 is not a folder"),
    ("weights --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
    ("completions tcsh", 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ("doctor extra", 2, "unexpected extra argument"),
]

PLAN = "plan --gpus 0 --base {base}"
OPTIONS += [
    # ---- plan, which takes the options of train that decide its result
    *((row[0].replace(NEW, PLAN), *row[1:]) for row in OPTIONS if row[0].startswith(NEW) and row[0].split()[6] in OF_PLAN),
    (f"{PLAN} --frames 1", 2, "--frames"),
    (f"{PLAN} --frames 99999", 2, "--frames must be between 2 and 1,024"),
    ("plan --gpus -1", 2, "--gpus"),
    ("plan --base nonsense", 2, "unknown base 'nonsense'", TRY, "--base cogvideox-2b"),
    (f"{PLAN} --gpu-memory 12", 2, "--gpu-memory takes a size with its unit, got '12'", TRY, "--gpu-memory 12GB"),
    (f"{PLAN} --gpu-memory 0GB", 2, "--gpu-memory takes a size with its unit"),
    (f"{PLAN} --gpu-memory -1GB", 2, "--gpu-memory takes a size with its unit"),
    (
        f"{PLAN} --gpu-memory 8GB",
        2,
        "--gpu-memory is that of a CUDA device, and --gpus 0 is the CPU",
        TRY,
        "leave one of them out",
    ),
    (f"{PLAN} --keep 0", 2, "--keep"),
    (f"{PLAN} --weights fp16", 2, "--weights", "'fp16' is not one of"),
    (f"{PLAN} --base-weights int4", 2, "--base-weights", "'int4' is not one of"),
    (f"{PLAN} --block-swap -1", 2, "--block-swap"),
    (f"{PLAN} --no-checkpointing --offload-activations", 2, "need --checkpointing"),
    (f"{PLAN} --optimizer paged-adamw8bit --offload-optimizer", 2, "two ways to the same end"),
    (f"{PLAN} --gpus 2 --accumulate 2 --offload-gradients", 2, "--offload-gradients is for one process, and these are 2"),
    (f"{PLAN} --shard-base", 2, "shares the frozen base out among processes, and this is one", TRY, "--gpus 2"),
    (f"{PLAN} --vae-tiling 2", 2, "unexpected extra argument"),
    (f"{PLAN} --deterministic 2", 2, "unexpected extra argument"),
    (f"{PLAN} --compile 2", 2, "unexpected extra argument"),
    (f"{PLAN} --offload-gradients 2", 2, "unexpected extra argument"),
    (f"{PLAN} --text-lr-scale 101", 2, "--text-lr-scale must be between 0 and 100, got 101"),
    ("plan --run first", 2, "--run belongs to --predict", TRY, "fca plan --predict --run first"),
    ("plan --predict --run nowhere", 1, "no run 'nowhere'"),
    (f"{PLAN} --predict --run first", 2, "a run has its own options of training", TRY, "leave out --run"),
    (f"{PLAN} --predict --gpu-memory 8GB", 2, "--gpus 0 is the CPU", TRY, "leave one of them out"),
    (
        "plan --predict --base {base} --gpus 2",
        2,
        "a prediction is made on one device, and --gpus 2 are several",
        TRY,
        "--gpus 1",
    ),
    ("plan --predict --base {base} --gpu-memory 1MB", 1, "nothing that was tried fits", "needs", TRY, "a larger --gpu-memory"),
    ("plan --gpus 2 --processes 2", 2, "--processes is for the CPU", TRY, "fca plan --gpus 0 --processes 2"),
    ("plan --gpus 2 --nodes 0", 2, "--nodes"),
    ("plan --predict --nodes 2", 2, "a prediction is made by one process", TRY),
    ("plan --predict --base nonsense", 2, "unknown base 'nonsense'", TRY, "--base cogvideox-2b"),
    ("plan --verbose --quiet", 2, "--verbose and --quiet exclude each other"),
]

CANNOT_BE_WRONG = {
    "--predict": "a switch",
    "--json": "a switch; every command prints its result as JSON",
    "--new": "a switch",
    "--print-launch": "a switch",
    "--choose": "a switch",
    "--strict": "a switch",
    "--ci": "a switch",
    "--force": "a switch",
    "--checkpointing": "a switch",
    "--keep-generated-init": "a switch",
    "--anyway": "a switch",
}
ARGUMENTS = {
    "reader": "READER",
    "raw": "nowhere",
    "frames": "FRAMES",
    "text": "TEXT",
    "folder": "given.mp4",
    "out": "OUT",
    "results": "nowhere",
}
"""An argument -> what stands in a row about it."""


def fca(folder: Path, typed: str, stage: Stage):
    words = {"base": str(stage.base), "long": "x" * 400, "videos": "data/toy/val/videos"}
    arguments = [word.format(**words) if "{" in word else word for word in shlex.split(typed)]
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
    finally:
        os.chdir(before)


def check(outcome, code: int, words: tuple[str, ...]) -> None:
    """The status, and one error with these words; those behind TRY stand in its hint."""
    said = re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", outcome.stderr))
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exc_info
    assert outcome.exit_code == code, said
    assert outcome.stdout == ""
    message, _, hint = said.partition(" try: ")
    behind = False
    for word in words:
        if word == TRY:
            behind = True
        else:
            assert word in (hint if behind else message), said
    assert "error: unexpected " not in said and "Traceback" not in said
    assert len(re.findall(r"error: | Error ", said)) == 1, said


@pytest.fixture(scope="module")
def right(stage) -> Path:
    """A folder in which everything is right; rows of OPTIONS leave it as it is."""
    folder = stage.fresh("run", stage.root / "right")
    shutil.copytree(folder / "data" / "toy" / "val", folder / "data" / "toy" / "train")
    before = sorted(folder.rglob("*"))
    yield folder
    left = [
        path for path in sorted(folder.rglob("*")) if path not in before and "cache" not in path.parts and path.name != ".lock"
    ]
    assert left == [], "a wrong option leaves something behind"


@pytest.mark.parametrize("row", OPTIONS, ids=[row[0] for row in OPTIONS])
def test_a_wrong_option(stage, right, row):
    typed, code, *words = row
    check(fca(right, typed, stage), code, tuple(words))


def test_every_option_of_every_command_is_in_the_table():
    lost = []
    for name, command in get_command(app).commands.items():
        rows = [shlex.split(typed)[1:] for typed, *_ in OPTIONS if shlex.split(typed)[0] == name]
        rows_said = " ".join(" ".join(map(str, row)) for row in OPTIONS if row[0].split()[0] == name)
        for parameter in command.params:
            spellings = [*parameter.opts, *parameter.secondary_opts]
            if set(spellings) & CANNOT_BE_WRONG.keys() or any(word in spellings for row in rows for word in row):
                continue
            if parameter.name not in ARGUMENTS and parameter.name != "shell":
                lost.append(f"{name} {spellings[0]}")
            elif parameter.name in ARGUMENTS and ARGUMENTS[parameter.name] not in rows_said:
                lost.append(f"{name} {parameter.name}")
    assert lost == [], "options that no row of the table gets wrong"


# ---------------------------------------------------------------- files


def write(path: str, content: str | bytes):
    """The file, or folder for a path that ends in /, is there with this content."""

    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def remove(path: str):
    """The file or folder is gone."""

    def change(folder: Path) -> None:
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return change


def edit(path: str, *keys: str | int, to: object = None, drop: bool = False):
    """One value of a JSON file is another one, or gone."""

    def change(folder: Path) -> None:
        value = holder = json.loads((folder / path).read_text())
        for key in keys[:-1]:
            holder = holder[key]
        if drop:
            del holder[keys[-1]]
        else:
            holder[keys[-1]] = to
        (folder / path).write_text(json.dumps(value))

    return change


def cut(path: str, share: float = 0.5):
    """The file ends early."""
    return lambda folder: (folder / path).write_bytes((data := (folder / path).read_bytes())[: int(len(data) * share)])


def labels(*rows: object):
    """train.json lists these rows, validation.json none."""

    def change(folder: Path) -> None:
        write_labels(folder / "raw", list(rows))
        (folder / "raw" / "labels" / "validation.json").write_text("[]")

    return change


def video(path: str, frames: int, size: int = 48):
    """A video of so many frames."""

    def change(folder: Path) -> None:
        from raw_videos import moving_square, write_video

        write_video(folder / path, moving_square(frames, width=size))

    return change


def without_pictures(folder: Path) -> None:
    shutil.rmtree(folder / "frames")
    (folder / "frames").mkdir()


def a_pickle(name: str):
    """An adapter as torch.save or pickle leaves it, in the place of adapter.safetensors."""

    def change(folder: Path) -> None:
        (folder / CHECKPOINT / "adapter.safetensors").rename(folder / CHECKPOINT / name)

    return change


RUN, CHECKPOINT, DATA = "runs/first", "runs/first/checkpoints/step-000004", "data/toy"
CONFIG, STATE, ROWS = f"{RUN}/config.json", f"{CHECKPOINT}/state.json", f"{DATA}/val/metadata.jsonl"
SSV2, FOLDER = "prepare ssv2 raw --workers 1 --name x", "prepare folder raw --workers 1 --name x"
PREDICT, EVAL = "predict frames text --steps 1", "eval --limit 2"
LABELS = "raw/labels/train.json"
META = "raw/metadata.jsonl"
GOOD_ROW = '{"file_name": "train/11.mp4", "text": "pushing"}'

FILES = [
    # everything right in | what is wrong | typed | status, words of the message
    ("ssv2", remove("raw/labels"), SSV2, 1, "no labels below raw", "labels/train.json", TRY, "give the folder that holds"),
    ("ssv2", remove("raw/20bn-something-something-v2"), SSV2, 1, "no clips below raw", "<id>.webm", TRY, "give the folder"),
    ("ssv2", write(LABELS, "[{"), SSV2, 1, "train.json is not valid JSON"),
    ("ssv2", write(LABELS, "[" * 99_999), SSV2, 1, "train.json is not valid JSON"),
    (
        "ssv2",
        write(LABELS, '{"11": "a"}'),
        SSV2,
        1,
        "should hold a list, found an object",
        TRY,
        "is it the right file",
    ),
    (
        "ssv2",
        labels(5),
        SSV2,
        1,
        "no row of the labels is right",
        "train.json row 1 should be an object",
        TRY,
        "is it the label",
    ),
    ("ssv2", labels({"label": "a"}), SSV2, 1, "row 1: id should be text or a number, found nothing"),
    ("ssv2", labels({"id": "11", "label": 7}), SSV2, 1, "row 1: label should be text, found a number"),
    (
        "ssv2",
        labels({"id": "99", "label": "a"}),
        SSV2,
        1,
        "no video below raw has a label",
        "a label: 99",
        TRY,
        "belong together",
    ),
    ("ssv2", labels({"id": "11", "label": ""}), SSV2, 1, "holds no clips with a prompt"),
    ("ssv2", None, "prepare ssv2 raw/labels", 1, "no clips below raw/labels"),
    ("ssv2", None, "prepare folder raw --name ssv2", 1, "no video below raw has a caption", TRY, "metadata.jsonl"),
    ("ssv2", None, f"{SSV2} --split test", 1, "holds no clips with a prompt in test", TRY, "without --split"),
    ("folder", None, "prepare ssv2 raw", 1, "no labels below raw", TRY, "the labels that come with them"),
    ("folder", write(META, "nonsense"), FOLDER, 1, "metadata.jsonl line 1 is not valid JSON", TRY, "expected metadata.jsonl"),
    ("folder", write(META, "[1]"), FOLDER, 1, "metadata.jsonl line 1 should be an object, found list"),
    (
        "folder",
        write(META, '{"clip": "a", "text": "b"}'),
        FOLDER,
        1,
        "line 1 has no column file_name or video; it has clip, text",
    ),
    ("folder", write(META, '{"video": "a", "words": "b"}'), FOLDER, 1, "has no column caption or text or prompt"),
    ("folder", write(META, '{"video": ["a"], "text": "b"}'), FOLDER, 1, "line 1: video should be text, found list"),
    ("folder", write(META, '{"video": "a.mp4", "text": "b"}'), FOLDER, 1, "none of the 1 videos listed below raw is there"),
    ("folder", write(META, '{"video": "/no/such.mp4", "text": "b"}'), FOLDER, 1, "none of the 1 videos listed", "/no/such.mp4"),
    ("folder", write(META, '{"video": "../../no.mp4", "text": "b"}'), FOLDER, 1, "none of the 1 videos listed"),
    ("folder", write(META, ""), FOLDER, 1, "the lists below raw name no videos"),
    (
        "folder",
        cut("raw/train/11.mp4"),
        f"{FOLDER} --split train --limit 1",
        1,
        "can be used; train/11.mp4",
        TRY,
        "skipped.json",
    ),
    ("folder", video("raw/train/11.mp4", 1), f"{FOLDER} --split train --limit 1", 1, "fewer frames than needed: 1 of 16"),
    ("folder", write("raw/train/11.mp4", ""), f"{FOLDER} --split train --limit 1", 1, "none of the 1 clips can be used"),
    (
        "folder",
        edit("data/raw/dataset.json", "raw", to="/other"),
        "prepare folder raw",
        1,
        "was prepared from",
        TRY,
        "--name OTHER",
    ),
    (
        "folder",
        write("data/raw/dataset.json", "[]"),
        "prepare folder raw",
        1,
        "was prepared from something else",
        TRY,
        "--name",
    ),
    ("run", without_pictures, PREDICT, 1, "cannot read frames: it holds no pictures"),
    ("run", write("frames/2.png", "text"), PREDICT, 1, "cannot read frames/2.png: it is not a picture that can be read"),
    ("run", write("frames/0.png", ""), PREDICT, 1, "cannot read frames/0.png: the file is empty"),
    ("run", cut("frames/0.png"), PREDICT, 1, "cannot read frames/0.png: the picture is damaged"),
    ("run", write("bad.mp4", ""), "predict bad.mp4 text", 1, "cannot read bad.mp4"),
    (
        "run",
        video("one.mp4", 1),
        "predict one.mp4 text",
        1,
        "one.mp4 holds 1 frame, 2 initial frames are needed",
        TRY,
        "--init-frames",
    ),
    ("run", cut("given.mp4", 0.3), "predict given.mp4 text", 1, "cannot read given.mp4"),
    (
        "run",
        write("theirs/notes.txt", "x"),
        f"{PREDICT} --out theirs",
        1,
        "--out theirs exists and holds something else",
        TRY,
        "--out",
    ),
    ("run", remove("runs"), PREDICT, 1, "no run in", TRY, "fca train"),
    ("run", remove(f"{RUN}/checkpoints"), PREDICT, 1, "has no checkpoint yet", TRY, "fca train"),
    ("run", write(CONFIG, "{"), PREDICT, 1, "config.json is not valid JSON"),
    ("run", write(CONFIG, "[]"), PREDICT, 1, "config.json holds no training configuration", TRY, "fca train --new"),
    ("run", edit(CONFIG, "config", "surprise", to=1), PREDICT, 1, "config.json: unknown field surprise"),
    ("run", edit(CONFIG, "config", "clip", drop=True), PREDICT, 1, "config.json: missing field clip"),
    ("run", edit(CONFIG, "config", "clip", "frames", to="16"), PREDICT, 1, "clip.frames is '16'; expected int"),
    ("run", edit(CONFIG, "config", "adapter", "kind", to=["fca"]), PREDICT, 1, "adapter.kind is ['fca']; expected one of"),
    (
        "run",
        edit(CONFIG, "config", "sample", "steps", to=10**12),
        PREDICT[:19],
        1,
        "sampling steps must be between 1 and 1,000",
    ),
    (
        "run",
        edit(CONFIG, "config", "base", to="gone/folder/here"),
        PREDICT,
        1,
        "the base of run first is not there",
        TRY,
        "put the",
    ),
    (
        "run",
        edit(CONFIG, "config", "base_fingerprint", to="0123"),
        PREDICT,
        1,
        "another version of",
        "0123",
        TRY,
        "fca train --new",
    ),
    ("run", write(STATE, "{}"), f"{PREDICT} --checkpoint 4", 1, "state.json is not the state of a checkpoint"),
    ("run", edit(STATE, "state", "step", to="4"), f"{PREDICT} --checkpoint 4", 1, "state.json", "step is '4'; expected int"),
    ("run", edit(STATE, "state", "extra", to=4), f"{PREDICT} --checkpoint 4", 1, "unknown field extra"),
    (
        "run",
        edit(STATE, "files", "optimizer.pt", "bytes", to=1e999),
        f"{PREDICT} --checkpoint 4",
        1,
        "not the state of a checkpoint",
    ),
    ("run", edit(STATE, "files", "a\0b", to={"bytes": 1, "sha256": ""}), f"{PREDICT} --checkpoint 4", 1, "step-000004"),
    ("run", remove(f"{CHECKPOINT}/adapter.safetensors"), f"{PREDICT} --checkpoint 4", 1, "adapter.safetensors: No such file"),
    ("run", cut(f"{CHECKPOINT}/adapter.safetensors"), f"{PREDICT} --checkpoint 4", 1, "adapter.safetensors has"),
    ("run", remove(DATA), EVAL, 1, "no prepared dataset 'toy'", TRY, "fca prepare"),
    ("run", write(ROWS, "{"), EVAL, 1, "metadata.jsonl line 1 is not valid JSON", TRY, "run fca prepare again"),
    ("run", write(ROWS, "7"), EVAL, 1, "line 1 is damaged: expected an object, found int", TRY, "run fca prepare again"),
    ("run", write(ROWS, ""), EVAL, 1, "holds no val clips", TRY, "fca prepare"),
    ("run", remove(f"{DATA}/val/videos"), EVAL, 1, "cannot read", "clip", TRY, "run fca prepare again"),
    ("run", edit("data/toy/dataset.json", "name", to=5), "train --gpus 0 --new --base {base}", 1, "holds no train clips"),
]
BASES = [
    # what is wrong with a base folder | words of the message
    (remove("model_index.json"), "it has no model_index.json", TRY, "--base takes a folder with model_index.json"),
    (write("model_index.json", "[]"), "holds a pipeline without a class name; fca adapts CogVideoXPipeline"),
    (edit("model_index.json", "_class_name", to="WanPipeline"), "holds a WanPipeline", TRY, "--base cogvideox-2b"),
    (remove("transformer"), "is not a complete pipeline folder", "transformer", TRY, "fetch the folder again"),
    (remove("vae/config.json"), "is not a complete pipeline folder", "vae", TRY, "fetch the folder again"),
    (
        edit("transformer/config.json", "num_layers", drop=True),
        "num_layers should be a whole number",
        "found nothing",
        TRY,
        "fetch",
    ),
    (edit("transformer/config.json", "num_layers", to=10**9), "num_layers should be a whole number between 1 and 1000"),
    (edit("transformer/config.json", "num_attention_heads", to="2"), "num_attention_heads should be", "found '2'"),
    (edit("transformer/config.json", "patch_size_t", to=[]), "patch_size_t should be"),
    (edit("vae/config.json", "block_out_channels", to=8), "block_out_channels should be a list"),
    (edit("vae/config.json", "scaling_factor", to=0), "scaling_factor should be a number above 0"),
    (write("fca.json", "[]"), "fca.json should hold an object, found list"),
    (edit("fca.json", "frames", to="16"), "fca.json.frames is '16'; expected int"),
]


@pytest.mark.parametrize("row", FILES, ids=[f"{number:02}" for number in range(len(FILES))])
def test_a_wrong_file(stage, row):
    name, change, typed, code, *words = row
    folder = stage.fresh(name)
    if change is not None:
        change(folder)
    check(fca(folder, typed, stage), code, tuple(words))


@pytest.mark.parametrize("row", BASES, ids=[f"{number:02}" for number in range(len(BASES))])
def test_a_wrong_base_folder(stage, right, row):
    change, *words = row
    base = stage.root / "spoilt-base"
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(stage.base, base)
    change(base)
    check(fca(right, f"train --new --gpus 0 --base {base}", stage), 1, tuple(words))


# ---------------------------------------------------------------- adapters


@pytest.mark.parametrize("name", ["adapter.bin", "adapter.pt", "adapter.ckpt", "pytorch_model.bin"])
def test_an_adapter_that_is_a_pickle_is_refused(stage, child_base, name):
    from fcacli.errors import FcaError
    from fcacli.model.attach import attached, load_adapter

    folder = stage.fresh("run")
    a_pickle(name)(folder)
    with pytest.raises(FcaError, match=f"{name} is not read: a file of that kind can run code") as error:
        load_adapter(child_base, folder / CHECKPOINT)
    assert "safetensors" in error.value.hint
    assert not attached(child_base.transformer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove("adapter_config.json"), "adapter_config.json is missing"),
        (write("adapter_config.json", "{"), "adapter_config.json is not valid JSON"),
        (edit("adapter_config.json", "base", drop=True), "missing field base"),
        (edit("adapter_config.json", "surprise", to=1), "unknown field surprise"),
        (edit("adapter_config.json", "clip", "frames", to=None), "clip.frames is None; expected int"),
        (edit("adapter_config.json", "base_fingerprint", to="0123"), "was made for .* \\(fingerprint 0123\\); this base is"),
        (edit("adapter_config.json", "adapter", "width", to=16), "does not fit this base.* is \\(.*the base needs"),
        (write("adapter.safetensors", b"PK\x03\x04 a pickle under our name"), "cannot read .*adapter.safetensors"),
    ],
)
def test_a_wrong_adapter_is_one_error_of_status_1(stage, child_base, change, said):
    from fcacli.errors import FcaError
    from fcacli.model.attach import attached, load_adapter

    folder = stage.fresh("run") / CHECKPOINT
    change(folder)
    with pytest.raises(FcaError, match=said) as error:
        load_adapter(child_base, folder)
    assert error.value.code == 1
    assert not attached(child_base.transformer)


@pytest.fixture(scope="module")
def child_base(stage):
    from fcacli.model.bases import load_base, resolve_base

    return load_base(resolve_base(str(stage.base)))


def test_numbers_that_are_not_finite_are_refused(stage, child_base):
    import torch
    from safetensors.torch import load_file, save_file

    from fcacli.errors import FcaError
    from fcacli.model.attach import load_adapter

    path = stage.fresh("run") / CHECKPOINT / "adapter.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    for spoilt, said in ((tensors[name] * float("nan"), "not finite"), (tensors[name].to(torch.int32), "is torch.int32")):
        save_file(tensors | {name: spoilt}, path)
        with pytest.raises(FcaError, match=f"{name} .*{said}"):
            load_adapter(child_base, path.parent)
