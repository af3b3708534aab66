"""Claims about `fca eval` by several processes: clip for clip what one gives; who dies or fails costs no clip that is done."""

import os
import sys
from pathlib import Path

import pytest
from trained_run import VAL_CLIPS, add_run, make_workspace

from fcacli.errors import FcaError
from fcacli.events import Message, Progress
from fcacli.workflows import generation
from fcacli.workflows.evaluate import evaluate_run
from fcacli.workflows.generation import assist
from fcacli.workflows.scoring_plan import Scoring
from fcacli.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from several import run_ranks

FAST = Scoring(metrics=("psnr",))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


def make(root: Path, base_folder: Path) -> Workspace:
    """A workspace with two runs."""
    workspace = make_workspace(root, base_folder)
    add_run(workspace, "other", base_folder, (3,), seed=1)
    return workspace


@pytest.fixture
def workspace(tmp_path, tiny_base_folder):
    return make(tmp_path, tiny_base_folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_base_folder, answers):
    """What one process gives: results and what it leaves."""
    workspace = make(tmp_path_factory.mktemp("alone"), tiny_base_folder)
    results, _, made = run_ranks(1, answers, evaluated(workspace))[0]
    assert len(results["rows"]) == 4 and len(made) == 3 * VAL_CLIPS
    return results, pictures(workspace)


def evaluated(workspace):
    """What each process does: results and what is said in the main one, clips that it has predicted in all."""

    def work(team):
        said, made = [], []
        inner = generation._generate

        def counting(trained, adapter, job, *rest):
            inner(trained, adapter, job, *rest)
            made.append(job.clip)

        generation._generate = counting
        if not team.main:
            return assist(workspace, "cpu", team), [], made
        result = evaluate_run(workspace, run="first", scoring=FAST, team=team, report=said.append)
        return result.results, said, made

    return work


def pictures(workspace: Workspace) -> dict[Path, bytes]:
    found = [*workspace.runs.glob("*/eval/*/clips*/**/*"), *(workspace.data / "toy" / "cache").glob("base-*/**/*")]
    return {path.relative_to(workspace.root): path.read_bytes() for path in found if path.is_file() and path.name != ".lock"}


def test_two_processes_give_what_one_gives_in_every_row(workspace, alone, answers):
    shared = run_ranks(2, answers, evaluated(workspace))
    assert shared[0][0]["rows"] == alone[0]["rows"] and shared[0][0]["metrics"] == alone[0]["metrics"]
    assert pictures(workspace) == alone[1] and len(alone[1]) == 3 * VAL_CLIPS * 17  # 16 frames and generated.json
    assert [len(part[2]) for part in shared] == [3 * 2, 3 * 1] and shared[1][0] is None
    texts = [event.text for event in shared[0][1] if isinstance(event, Message)]
    assert f"{2 * VAL_CLIPS} clips to predict, shared by 2 processes" in texts
    again = run_ranks(2, answers, evaluated(workspace))
    assert again[0][0] == shared[0][0] and again[0][2] == again[1][2] == []


@pytest.mark.parametrize("dies", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_that_dies_loses_no_clip_that_is_done(workspace, alone, answers, dies, monkeypatch):
    inner = generation._generate

    def deadly(trained, adapter, job, *rest):
        if int(os.environ["RANK"]) == dies and job.folder.parent.name == "clips":
            os._exit(9)
        inner(trained, adapter, job, *rest)

    with monkeypatch.context() as planted:
        planted.setattr(generation, "_generate", deadly)
        ended = run_ranks(2, answers, evaluated(workspace))
    assert ended[dies] == 9 and ended[1 - dies] == ("ProcessLost", "another process of this run has ended")
    done = [path for path in workspace.root.rglob("generated.json") if path.parent.parent.name == "base-predictions"]
    assert len(done) == VAL_CLIPS
    results, _, made = run_ranks(1, answers, evaluated(workspace))[0]
    assert results["rows"] == alone[0]["rows"] and pictures(workspace) == alone[1]
    assert len(made) <= 2 * VAL_CLIPS


def test_what_one_process_cannot_do_is_said_once_and_another_run_is_passed_over(workspace, answers, monkeypatch):
    inner = generation._generate

    def failing(trained, adapter, job, *rest):
        if os.environ["RANK"] == "1" and trained.run.name == "other":
            raise FcaError("out of memory", "less")
        inner(trained, adapter, job, *rest)

    monkeypatch.setattr(generation, "_generate", failing)
    results, said, _ = run_ranks(2, answers, evaluated(workspace))[0]
    assert [event.text for event in said if isinstance(event, Message) and event.level == "warning"] == [
        "run other has no row: out of memory"
    ]
    assert len(results["rows"]) == 3
    assert {event.phase for event in said if isinstance(event, Progress)} >= {"predict", "predict, base alone"}
