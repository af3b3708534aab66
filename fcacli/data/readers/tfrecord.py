"""TFRecord files of tf.train.Example, without TensorFlow: framing and the few kinds of protobuf fields they need.

    record    length: 8 bytes, CRC-32C of it: 4, the message, CRC-32C of that: 4; little-endian
    message   Example {1: Features {1: repeated entry {1: name, 2: Feature {1: BytesList {1: repeated bytes}}}}}

The file is mapped, not read: what comes out are places of byte strings in it. CRCs of messages are not checked (a damaged
picture is found when it is decoded); those of lengths are, as a wrong length would lead astray.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from fcacli.errors import FcaError

Place = tuple[int, int]
"""Offset and size in the file, bytes."""


def examples(path: Path) -> Iterator[dict[str, list[Place]]]:
    """Of each record, the byte strings of each feature that has some.

    Raises:
        FcaError: at the record where the file is damaged or broken off.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from _examples(path, data)
    except OSError as error:
        raise FcaError(f"cannot read {path}: {error.strerror or error}") from None


def _examples(path: Path, data: mmap.mmap) -> Iterator[dict[str, list[Place]]]:
    place, number = 0, 0
    while place < len(data):
        header = data[place : place + 12]
        if len(header) < 12:
            raise FcaError(f"{path} is truncated after {number} records")
        length, crc = struct.unpack("<QI", header)
        if _masked_crc(header[:8]) != crc:
            raise FcaError(f"{path} is damaged after {number} records: a length does not fit its check sum")
        start, stop = place + 12, place + 12 + length
        if stop + 4 > len(data):
            raise FcaError(f"{path} is truncated after {number} records: {length:,} bytes are promised")
        number += 1
        try:
            yield _features(data, start, stop)
        except (ValueError, IndexError):
            raise FcaError(f"{path} is damaged: record {number} holds no tf.train.Example") from None
        place = stop + 4


def _features(data: mmap.mmap, start: int, stop: int) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for features in _strings(data, start, stop, 1):
        for entry in _strings(data, *_ends(features), 1):
            names = list(_strings(data, *_ends(entry), 1))
            for feature in _strings(data, *_ends(entry), 2) if names else ():
                name = data[slice(*_ends(names[0]))].decode(errors="replace")
                for values in _strings(data, *_ends(feature), 1):
                    found[name] = list(_strings(data, *_ends(values), 1))
    return found


def _ends(place: Place) -> tuple[int, int]:
    return place[0], place[0] + place[1]


def _strings(data: mmap.mmap, start: int, stop: int, wanted: int) -> Iterator[Place]:
    """The length-delimited fields of number `wanted` in a message.

    Raises:
        ValueError: this is no message.
    """
    place = start
    while place < stop:
        key, place = _varint(data, place)
        field, kind = key >> 3, key & 7
        if kind == 2:
            size, place = _varint(data, place)
            if field == wanted and place + size <= stop:
                yield place, size
        elif kind == 0:
            size, (_, end) = 0, _varint(data, place)
            place = end
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("unknown kind of field")
        place += size
        if place > stop:
            raise ValueError("a field ends outside of its message")


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number without end")


def _masked_crc(data: bytes) -> int:
    """CRC-32C, turned and shifted as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
