"""Progress events."""

import pytest

from fcacli.events import Message, Progress, silent, track


def test_track_reports_before_the_first_and_after_each():
    events = []
    assert list(track("abc", events.append, "reading")) == ["a", "b", "c"]
    assert [(e.done, e.total) for e in events] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {e.phase for e in events} == {"reading"}


def test_track_counts_what_was_finished_earlier():
    events = []
    list(track("ab", events.append, "reading", done=5))
    assert [(e.done, e.total) for e in events] == [(5, 7), (6, 7), (7, 7)]


def test_track_of_an_iterator_has_no_total():
    events = []
    list(track(iter("ab"), events.append, "reading"))
    assert [e.total for e in events] == [None, None, None]


def test_track_of_nothing_opens_and_closes_the_phase():
    events = []
    assert list(track([], events.append, "reading")) == []
    assert events == [Progress("reading", 0, 0)]


def test_an_item_counts_only_when_it_is_done():
    events = []
    with pytest.raises(KeyError):
        for _ in track("ab", events.append, "reading"):
            raise KeyError
    assert [e.done for e in events] == [0]


def test_silent_takes_every_event():
    silent(Progress("a", 0, None))
    silent(Message("b"))
