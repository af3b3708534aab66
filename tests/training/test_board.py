"""Claims about TensorBoard's files: its own reader finds the curves, and what a continued run purges."""

from pathlib import Path

import pytest

from fcacli.training.board import Board


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_curves_are_read_back_and_a_continued_run_replaces_what_it_repeats(tmp_path):
    def silent(event):
        pytest.fail(event.text)

    first = Board(tmp_path, 1, silent)
    for step in (1, 2, 3):
        first.add(step, {"loss": step / 2, "lr": 0.5})
    first.close()
    second = Board(tmp_path, 3, silent)  # continues from step 2
    second.add(3, {"loss": 8.0, "lr": 0.25})
    second.close()
    assert read(tmp_path) == {"loss": [(1, 0.5), (2, 1.0), (3, 8.0)], "lr": [(1, 0.5), (2, 0.5), (3, 0.25)]}


def test_a_disk_that_fills_up_turns_it_off_with_one_warning(tmp_path, monkeypatch):
    said = []
    board = Board(tmp_path, 1, said.append)
    board.add(1, {"loss": 1.0})
    board._file.close()
    board._file = Path("/dev/full").open("wb")  # noqa: SIM115
    for step in (2, 3, 4):
        board.add(step, {"loss": 1.0})
    board.close()
    assert [event.level for event in said] == ["warning"] and "No space left" in said[0].text
    assert read(tmp_path) == {"loss": [(1, 1.0)]}
