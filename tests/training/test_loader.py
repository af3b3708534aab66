"""Claims about data order: a function of seed and step, every clip once an epoch."""

from dataclasses import replace

import torch

from fcacli.training.loader import StepBatches


def order(seed: int, epoch: int, n: int) -> list[int]:
    return torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + epoch)).tolist()


def test_continued_order_is_the_rest_of_the_whole_one(make_config):
    settings = make_config(steps=7, batch_size=3, accumulate=2)
    whole = list(StepBatches(5, settings, 0, order))
    assert len(whole) == 14
    for step in range(8):
        assert list(StepBatches(5, settings, step, order)) == whole[2 * step :]


def test_every_clip_comes_once_an_epoch(make_config):
    flat = [index for batch in StepBatches(5, make_config(steps=10, batch_size=3), 0, order) for index in batch]
    for epoch in range(6):
        assert sorted(flat[5 * epoch : 5 * epoch + 5]) == list(range(5))


def test_order_does_not_depend_on_accumulation(make_config):
    settings = make_config(steps=4, batch_size=4)
    whole = [index for batch in StepBatches(9, settings, 0, order) for index in batch]
    split = replace(settings, batch_size=2, accumulate=2)
    assert [index for batch in StepBatches(9, split, 0, order) for index in batch] == whole


def test_batch_larger_than_the_dataset_repeats_clips(make_config):
    assert [len(batch) for batch in StepBatches(2, make_config(steps=2, batch_size=5), 0, order)] == [5, 5]
