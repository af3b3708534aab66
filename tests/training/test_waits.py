"""Claims about waiting for clips: a large share of the time is named, and rarely; a long wait names its clips meanwhile."""

import threading

from fcacli.training.waits import Waits


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(waits, clock, steps, computing=0.0):
    """Steps whose computing takes so long each; their waiting is the iterator's."""
    for _ in range(steps):
        began = clock.now
        next(waits)
        clock.now += computing
        waits.stepped(clock.now - began)


def slow(clock, seconds, count=1000):
    for number in range(count):
        clock.now += seconds
        yield number


def names(count=1000):
    return ([f"clip-{number}"] for number in range(count))


def test_waiting_for_more_than_a_fifth_of_the_time_is_named_with_the_share_and_the_option():
    clock, said = Clock(), []
    waits = Waits(slow(clock, 0.3), names(), 2, said.append, clock=clock)
    run(waits, clock, 20, computing=0.7)
    assert said == []  # the first step starts the processes; twenty more are the window
    run(waits, clock, 1, computing=0.7)
    assert [event.level for event in said] == ["warning"]
    assert "30% of the last 20 steps" in said[0].text and "--workers 4" in said[0].text


def test_it_is_named_again_only_after_minutes():
    clock, said = Clock(), []
    waits = Waits(slow(clock, 0.5), names(), 0, said.append, clock=clock, pause=300)
    run(waits, clock, 300, computing=0.5)
    assert len(said) == 1 and "--workers 2" in said[0].text
    run(waits, clock, 100, computing=0.5)
    assert len(said) == 2


def test_a_slow_start_and_a_small_share_are_not_named():
    clock, said = Clock(), []

    def starting():
        clock.now += 60
        yield from slow(clock, 0.1)

    run(Waits(starting(), names(), 2, said.append, clock=clock), clock, 100, computing=0.9)
    assert said == []


def test_a_single_long_wait_names_its_clips_while_it_lasts():
    heard = threading.Event()
    said = []

    def report(event):
        said.append(event)
        heard.set()

    def stuck():
        yield 1
        assert heard.wait(20)  # goes on only when it has been said
        yield 2

    waits = Waits(stuck(), iter([["a"], ["b", "c"]]), 0, report, patience=0.05)
    assert next(waits) == 1 and said == []
    assert next(waits) == 2
    assert len(said) == 1 and "for clips b, c" in said[0].text and said[0].level == "warning"


def test_what_was_waited_is_returned_for_the_log():
    clock = Clock()
    waits = Waits(slow(clock, 0.25), names(), 0, lambda event: None, clock=clock)
    next(waits)
    next(waits)  # two micro-batches of one step
    assert waits.stepped(1.0) == 0.5
    next(waits)
    assert waits.stepped(1.0) == 0.25
