"""What is not found out again is what torch would find out: the same bytes, for every kind of base and option."""

import pytest
import torch
from test_training import NONE_AT_ONCE, OPTIONS, config_of

from fcacli.model.bases import resolve_base
from fcacli.planning import fakes
from fcacli.planning import memory as planner_module
from fcacli.planning.fakes import CountingFakes
from fcacli.planning.live import Meter
from fcacli.planning.memory import Planner
from fcacli.planning.repeats import trace_once
from fcacli.planning.shaped import shaped_base

QUICK = ("fca, nf4 base, checkpointing", "fca, checkpointing")
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]


@pytest.fixture
def without_memory(monkeypatch):
    """From its call on, torch finds everything out each time."""

    def forget():
        monkeypatch.setattr(CountingFakes, "_key", lambda *_: None)
        monkeypatch.setattr(CountingFakes, "_seen", lambda self, func, args, kwargs: self._found_out(func, (), args, kwargs))
        monkeypatch.setattr(planner_module, "trace_once", lambda *_: None)

    return forget


@pytest.mark.parametrize("options", ALL)
def test_a_training_has_the_same_bytes(folder_of, without_memory, options):
    kind, fields = OPTIONS[options]
    spec = resolve_base(str(folder_of(kind)))
    config = config_of(spec, **fields)

    def marks():
        planner = Planner(shaped_base(spec, "cuda"), config.clip, "cuda", NONE_AT_ONCE)
        return planner.traced(planner._train, 2, config)

    found = marks()
    without_memory()
    assert found == marks()


def test_encoding_and_decoding_have_the_same_bytes(folder_of, without_memory):
    spec = resolve_base(str(folder_of("absolute")))
    clip = config_of(spec, frames=25).clip

    def parts():
        planner = Planner(shaped_base(spec, "cpu"), clip, "cpu", NONE_AT_ONCE)
        return [planner.work(part, 2) for part in ("vae", "text_encoder")] + [
            planner.decoding(tiling) for tiling in (False, True)
        ]

    found = parts()
    without_memory()
    assert found == parts()


def test_torch_is_asked_once_for_operations_that_are_alike(monkeypatch):
    asked = []
    found_out = CountingFakes._found_out
    monkeypatch.setattr(
        CountingFakes, "_found_out", lambda self, func, *rest: asked.append(func) or found_out(self, func, *rest)
    )
    monkeypatch.setattr(fakes, "KNOWN", {})
    with CountingFakes(Meter()):
        x = torch.empty(3, 5)
        asked.clear()
        for factor in (2.0, 3.0):
            assert (x.t() * factor).shape == (5, 3)
        assert len(asked) == 1, "not for views, once for products, whatever the factor"
        (x + 1, x + 1.5, x + x)
        assert len(asked) == 4


class Wide(torch.nn.Module):
    """Takes ten times its input for a while."""

    def forward(self, x, cache=None):
        wide = torch.cat([x] * 10)
        return wide[:1].clone(), {"kept": x.clone() if cache is None else cache}


def calls(*caches):
    """Of three calls: what each took on top of what it left, and what that was."""
    meter, part, took, left, given = Meter(), Wide(), [], [], []
    with CountingFakes(meter), torch.no_grad():
        trace_once(part, meter)
        x = torch.empty(1, 100)
        before = meter.now
        for cache in caches:
            meter.restart()
            given.append(part(x, cache and cache(x)))
            meter.mark(str(len(given)))
            took.append(meter.marks[str(len(given))] - meter.now)
            left.append(meter.now - before)
            before = meter.now
    return took, left


def test_a_call_like_an_earlier_one_counts_its_peak_and_its_results_again():
    took, left = calls(None, None, None)
    assert took == [4000] * 3 and left == [800] * 3


def test_a_call_that_gives_back_its_input_is_traced_each_time():
    took, left = calls(torch.clone, torch.clone)
    assert took == [4000] * 2 and left == [800] * 2
