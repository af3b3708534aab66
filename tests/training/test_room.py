"""Claims about the disk of a run: too little room for three more checkpoints is said once."""

from collections import namedtuple

import pytest

from fcacli.training import room

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("free, warned", [(2_900, True), (3_100, False)])
def test_less_than_three_checkpoints_of_room_is_said_once(tmp_path, monkeypatch, free, warned):
    (tmp_path / "adapter.safetensors").write_bytes(b"0" * 600)
    (tmp_path / "optimizer.pt").write_bytes(b"0" * 400)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: Usage(10_000, 0, free))
    monkeypatch.setattr(room.Room, "left", lambda self: free / 1e9)
    said = []
    disk = room.Room(tmp_path, said.append)
    disk.saved(tmp_path)
    disk.saved(tmp_path)
    assert [event.level for event in said] == ["warning"] * warned
    assert not said or "--keep 1" in said[0].text


def test_left_is_what_the_file_system_says(tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: Usage(10**12, 0, 123_456_000_000))
    assert room.Room(tmp_path, lambda event: None).left() == 123.456
