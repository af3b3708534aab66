"""How files are spoiled: every function takes a random.Random and says in words what it did, so that it can be repeated."""

import json
import struct
import zlib
from random import Random
from typing import Any

LONG = "long " * 20_000
HOSTILE = [
    "new\nline",
    "../../../escape",
    "/etc/absolute",
    "-leading-dash",
    "--help",
    "emoji 🙂🔥",
    "שלום עולם \u202eright to left",
    "推动红色杯子",
    "nul\0inside",
    "\x1b[2J\x1b[31mescape",
    "\x9b31m C1",
    "[red]markup[/red] [/]",
    "lone \ud800 surrogate",
    "lone \udcff byte",
    "",
    " ",
    ".",
    "..",
    "x" * 5000,
    LONG,
    "%s %n {0} $HOME `id`",
    "e\u0301\u0301\u0301 combining",
    "\ufeffbom\u200b",
]
WRONG: list[Any] = [None, True, False, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**30, "", "x", [], {}, [[]], {"a": {}}]
NESTED = "[" * 100_000
DIGITS = "9" * 10_000


def spoil_bytes(random: Random, data: bytes, head: int = 600) -> tuple[bytes, str]:
    """Bytes flipped, cut, inserted, removed, repeated or blanked; half of the time within the first `head`."""
    kinds = [flip, flip, overwrite, truncate, insert, remove, repeat, blank]
    return random.choice(kinds)(random, data, min(len(data), head) if random.random() < 0.5 else len(data))


def flip(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    spoilt, count = bytearray(data), random.choice([1, 4, 32])
    places = sorted(random.randrange(max(end, 1)) for _ in range(count))
    for place in places:
        spoilt[place] ^= random.randrange(1, 256)
    return bytes(spoilt), f"flip bytes {places}"


def overwrite(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    place, value = random.randrange(max(end - 4, 1)), random.choice([0, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 60000])
    order = random.choice("<>")
    return data[:place] + struct.pack(f"{order}I", value) + data[place + 4 :], f"write {value:#x} ({order}) at {place}"


def truncate(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    place = random.randrange(end)
    return data[:place], f"cut at {place} of {len(data)}"


def insert(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    place, count = random.randrange(end), random.choice([1, 7, 512])
    return data[:place] + random.randbytes(count) + data[place:], f"insert {count} random bytes at {place}"


def remove(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    place, count = random.randrange(end), random.choice([1, 3, 64])
    return data[:place] + data[place + count :], f"remove {count} bytes at {place}"


def repeat(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    place, count = random.randrange(end), random.choice([16, 256])
    return data[: place + count] + data[place : place + count] * 4 + data[place + count :], f"repeat {count} bytes at {place}"


def blank(random: Random, data: bytes, end: int) -> tuple[bytes, str]:
    place, count = random.randrange(end), random.choice([4, 100])
    return data[:place] + bytes(count) + data[place + count :], f"{count} zeros at {place}"


def spoil_json(random: Random, value: Any) -> tuple[bytes, str]:
    """JSON text in which one value, anywhere in it, is of another type, hostile, missing, nested too deep, or no JSON."""
    value = json.loads(json.dumps(value))
    holder, key, path = _somewhere(random, value)
    if holder is None:
        new = random.choice(WRONG)
        return json.dumps(new).encode(), f"all of it becomes {new!r}"
    kind = random.choice(["type", "type", "type", "text", "text", "missing", "unknown", "nested", "digits", "bytes"])
    if kind == "missing" and isinstance(holder, dict):
        del holder[key]
        return json.dumps(value).encode(), f"{path} is missing"
    if kind == "unknown" and isinstance(holder, dict):
        holder["surprise"] = holder.pop(key)
        return json.dumps(value).encode(), f"{path} is renamed to surprise"
    if kind in ("nested", "digits"):
        holder[key] = "@@"
        text = NESTED if kind == "nested" else DIGITS
        return json.dumps(value).replace('"@@"', text).encode(), f"{path} becomes {len(text)} times {text[0]}"
    if kind == "bytes":
        spoilt, what = spoil_bytes(random, json.dumps(value).encode())
        return spoilt, f"as bytes: {what}"
    new = random.choice(HOSTILE if kind == "text" else WRONG)
    holder[key] = new
    ascii = random.random() < 0.5
    return json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass"), f"{path} becomes {new!r:.80}, ascii={ascii}"


def _somewhere(random: Random, value: Any) -> tuple[Any, Any, str]:
    places: list[tuple[Any, Any, str]] = [(None, None, "")]

    def walk(part: Any, path: str) -> None:
        items = part.items() if isinstance(part, dict) else list(enumerate(part))[:20] if isinstance(part, list) else ()
        for key, below in items:
            places.append((part, key, f"{path}.{key}"))
            walk(below, f"{path}.{key}")

    walk(value, "")
    return random.choice(places)


# ---------------------------------------------------------------- files that claim too much


def png(width: int, height: int, rows: int = 0) -> bytes:
    """A PNG whose header claims a size, with `rows` black rows in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    deflate = zlib.compressobj(9)
    lines = b"".join(deflate.compress(bytes(1 + 3 * width)) for _ in range(rows)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 2**31 - 1, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def ppm(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255\n".encode() + bytes(100)


def gif(width: int, height: int, frames: int) -> bytes:
    """A GIF of one colour, each frame a few kB whatever its size."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("P", (width, height)).save(file, "GIF")
    data = file.getvalue()
    start = data.index(b",", 13 + 3 * (2 << (data[10] & 7) if data[10] & 128 else 0))
    return data[:start] + data[start:-1] * frames + b";"


def sized(data: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """A video with every place where its width and height stand as neighbours set to a new size."""
    for kind in (">HH", "<HH", ">II", "<II", "<ii"):
        data = data.replace(struct.pack(kind, *old), struct.pack(kind, *new))
    tall = [struct.pack(">II", *(side << 16 for side in size)) if max(size) < 65536 else b"" for size in (old, new)]
    return data.replace(*tall) if all(tall) else data
