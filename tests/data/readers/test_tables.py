"""Tables row by row: equal to reading them whole, and bounded."""

import json
import random

import pytest

from fcacli.data.readers import tables
from fcacli.data.readers.tables import json_list, jsonl_rows, lines, parquet_rows
from fcacli.errors import FcaError

VALUES = [{"id": "1", "label": 'a "b" [c] {d}', "n": [1, [2, {}]]}, 12, -1.5e3, "x\u00e9\n", None, True, [], {}, "", 1234567]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_in_pieces_is_the_list(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(tables, "CHUNK", chunk)
    random.seed(chunk)
    for number in range(20):
        values = random.sample(VALUES, random.randrange(len(VALUES)))
        path = tmp_path / f"{number}.json"
        path.write_text(" " * number + json.dumps(values, indent=indent, ensure_ascii=bool(number % 2)) + "\n")
        assert list(json_list(path)) == values


BROKEN = ["[", "[1", "[1,", "[1 2]", "[1,]", "[1]x", "[1]]", "", "x", "[{]", '["a]', "[tru]", "[-1.", "[" * 100_000]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:6])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_what_is_no_json_list_is_refused(tmp_path, monkeypatch, text, chunk):
    if len(text) > 1000 and chunk == 1:
        return
    monkeypatch.setattr(tables, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FcaError, match=r"a\.json is not valid JSON"):
        list(json_list(path))


@pytest.mark.parametrize(("text", "kind"), [("{}", "an object"), ("3", "a number"), ('"a"', "text"), ("null", "null")])
def test_another_value_is_named(tmp_path, text, kind):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FcaError, match=f"should hold a list, found {kind}"):
        list(json_list(tmp_path / "a.json"))


def test_lines_are_as_editors_count_them(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffa\r\nb\u2028c\n\n\xe4".encode() + b"\xff")
    assert list(lines(tmp_path / "a")) == ["a", "b\u2028c", "", "\xe4\udcff"]


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_ROW", 1000)
    (tmp_path / "a").write_text("x" * 5000)
    with pytest.raises(FcaError, match="a line of more than 1,000 characters"):
        list(jsonl_rows(tmp_path / "a"))
    (tmp_path / "a.json").write_text("[" + '"' + "x" * 3 * 2**20)
    with pytest.raises(FcaError, match="not valid JSON"):
        list(json_list(tmp_path / "a.json"))


def test_parquet_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a": list(range(100_000)), "b": [0] * 100_000}), tmp_path / "a.parquet")
    assert next(parquet_rows(tmp_path / "a.parquet", ["b", "c"])) == {"b": 0}
    monkeypatch.setattr(tables, "LARGEST_GROUP", 100_000)
    with pytest.raises(FcaError, match="unpacks to more than"):
        next(parquet_rows(tmp_path / "a.parquet", ["a"]))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_parquet_file_is_said(tmp_path, share):
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": list(range(1000))}), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FcaError, match=r"a\.parquet is not a Parquet file"):
        list(parquet_rows(path, ["a"]))
    path.write_bytes(data[:40] + b"\xff" * 200 + data[240:])
    with pytest.raises(FcaError, match=r"a\.parquet is not a Parquet file"):
        list(parquet_rows(path, ["a"]))
