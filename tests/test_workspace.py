"""Where things lie, and writes that are whole or not there."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fcacli.errors import FcaError, Misuse
from fcacli.workspace import (
    Workspace,
    atomic_file,
    atomic_folder,
    drop_empty,
    read_json,
    remove_leftovers,
    require_writable,
    slug,
    write_json,
)


def dataset(root: Path, name: str, age: float = 0) -> Path:
    write_json(root / "data" / name / "dataset.json", {})
    stamp = 1_000_000_000 - age
    os.utime(root / "data" / name / "dataset.json", (stamp, stamp))
    return root / "data" / name


def run(root: Path, name: str, created: str) -> Path:
    write_json(root / "runs" / name / "config.json", {"created": created})
    return root / "runs" / name


def test_the_latest_dataset_is_the_default(tmp_path):
    dataset(tmp_path, "old", age=100)
    new = dataset(tmp_path, "new", age=1)
    dataset(tmp_path, "older", age=200)
    assert Workspace(tmp_path).dataset() == new


def test_a_half_prepared_dataset_does_not_count(tmp_path):
    (tmp_path / "data" / "half" / "train").mkdir(parents=True)
    with pytest.raises(FcaError, match="no prepared data") as caught:
        Workspace(tmp_path).dataset()
    assert "fca prepare" in caught.value.hint


def test_an_unknown_dataset_lists_the_known(tmp_path):
    dataset(tmp_path, "cups")
    with pytest.raises(FcaError, match="cups"):
        Workspace(tmp_path).dataset("bowls")


def test_the_run_created_last_is_the_default_whatever_its_name(tmp_path):
    run(tmp_path, "z", "2026-01-01T10:00:00")
    last = run(tmp_path, "a", "2026-01-02T10:00:00")
    assert Workspace(tmp_path).run() == last
    assert Workspace(tmp_path).run("z").name == "z"


def test_no_run_says_what_to_do(tmp_path):
    with pytest.raises(FcaError, match="no run") as caught:
        Workspace(tmp_path).run()
    assert caught.value.hint == "fca train"
    assert caught.value.code == 1


def test_a_run_that_is_there_is_proposed(tmp_path):
    for number, name in enumerate(("20260101-101010", "second", "third")):
        run(tmp_path, name, f"2026-01-0{number + 1}")
    for typed, proposed in (("2026", "20260101-101010"), ("secnd", "second"), ("nope", "third")):
        with pytest.raises(FcaError, match=f"no run '{typed}'") as caught:
            Workspace(tmp_path).run(typed)
        assert caught.value.hint == f"--run {proposed}"


def test_in_a_folder_of_the_workspace_the_way_out_is_named(tmp_path, monkeypatch):
    run(tmp_path, "first", "2026-01-01")
    (dataset(tmp_path, "cups") / "val").mkdir()
    for inside, way in (("runs", ".."), ("runs/first", "../.."), ("data/cups", "../..")):
        monkeypatch.chdir(tmp_path / inside)
        for look in (Workspace().run, Workspace().dataset):
            for name in (None, "other"):
                with pytest.raises(FcaError, match="no ") as caught:
                    look(name)
                assert caught.value.hint.startswith(f"cd {way} first, then the same command: {tmp_path}")
    monkeypatch.chdir(tmp_path / "data" / "cups" / "val")
    with pytest.raises(FcaError, match="no run in") as caught:
        Workspace().run()
    assert caught.value.hint == "fca train"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "-x", "/etc"])
def test_names_cannot_leave_their_folder(tmp_path, name):
    with pytest.raises(Misuse):
        Workspace(tmp_path).run(name)
    with pytest.raises(Misuse):
        Workspace(tmp_path).dataset(name)
    with pytest.raises(Misuse):
        Workspace(tmp_path).new_run(name)


def test_a_new_run_never_takes_a_name_that_exists(tmp_path):
    with ThreadPoolExecutor(8) as commands:  # of the same second
        paths = list(commands.map(lambda _: Workspace(tmp_path).new_run(), range(16)))
    assert len(set(paths)) == 16
    for path in paths:
        drop_empty(path)
    assert not (tmp_path / "runs").exists()
    run(tmp_path, "mine", "2026")
    with pytest.raises(FcaError, match="exists"):
        Workspace(tmp_path).new_run("mine")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_folder(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as temporary:
        (temporary / "half").touch()
        raise KeyboardInterrupt
    assert [p.name for p in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "deep" / "a"
    path.mkdir(parents=True)
    (path / "old").touch()
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_the_old_folder_is_never_half_removed_under_its_name(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").touch()
    removed = []
    monkeypatch.setattr("shutil.rmtree", lambda folder, **_: removed.append(folder))
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
    assert path not in removed and removed[0].name.startswith(".a.")
    assert [p.name for p in path.iterdir()] == ["new"]


def test_leftovers_go_and_nothing_else(tmp_path):
    (tmp_path / ".a.x1.tmp" / "inner").mkdir(parents=True)
    kept = [tmp_path / "a.tmp", tmp_path / ".lock", tmp_path / "videos" / "1.mp4", tmp_path / "deep" / ".b.1.tmp"]
    for path in (*kept, tmp_path / "videos" / ".1.mp4.7.tmp.mp4"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    remove_leftovers(tmp_path, "videos")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not (tmp_path / ".a.x1.tmp").exists()


def test_a_run_folder_that_holds_nothing_yet_is_free(tmp_path):
    """What a process leaves that is killed, or finds the disk full, before it has written config.json."""
    folder = Workspace(tmp_path).runs / "mine"
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / ".config.json.7.tmp.json").touch()
    assert Workspace(tmp_path).new_run("mine") == folder
    (folder / "config.json").touch()
    with pytest.raises(FcaError, match="exists already"):
        Workspace(tmp_path).new_run("mine")


def test_a_write_that_cannot_be_names_the_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FcaError, match="file"), atomic_file(tmp_path / "file" / "inner.txt"):
        pass
    with pytest.raises(FcaError, match="file"), atomic_folder(tmp_path / "file" / "inner"):
        pass


def test_json_goes_round_with_any_alphabet(tmp_path):
    write_json(tmp_path / "a.json", {"text": "schiebt Tasse nach links, 左へ"})
    assert read_json(tmp_path / "a.json") == {"text": "schiebt Tasse nach links, 左へ"}
    assert "左" in (tmp_path / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"{", b"[1,", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_json_names_the_file(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(FcaError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")


def test_missing_json_names_the_file(tmp_path):
    with pytest.raises(FcaError, match=r"gone\.json"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(FcaError):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pushing cup left", "pushing-cup-left"),
        ("../../etc/passwd", "etc-passwd"),
        ("schiebt Äpfel", "schiebt-äpfel"),
        ("...", "untitled"),
        ("", "untitled"),
        ("a" * 100, "a" * 48),
    ],
)
def test_slugs_are_file_names(text, expected):
    assert slug(text) == expected


def test_a_run_and_a_dataset_may_be_named_by_their_paths(tmp_path, monkeypatch):
    """As commands print them; not those of another workspace."""
    one, cups = run(tmp_path, "one", "2026-01-01"), dataset(tmp_path, "cups")
    run(tmp_path, "two", "2026-01-02")
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path)
    assert workspace.run("runs/one") == workspace.run(str(one)) == workspace.run("one") == one
    assert workspace.dataset("data/cups") == workspace.dataset(f"{cups}/") == cups
    for name in ("elsewhere/one", "../one", "runs/../one"):
        with pytest.raises(Misuse, match="plain name"):
            workspace.run(name)


def test_a_dataset_in_other_letters_is_proposed(tmp_path):
    dataset(tmp_path, "my-cups")
    with pytest.raises(FcaError, match="no prepared dataset") as caught:
        Workspace(tmp_path).dataset("My Cups".replace(" ", "-"))
    assert caught.value.hint == "--data my-cups"


def test_the_command_that_goes_on_names_a_run_that_is_not_the_last(tmp_path):
    one, two = run(tmp_path, "one", "2026-01-01"), run(tmp_path, "two", "2026-01-02")
    assert Workspace.continuing(two) == "fca train" and Workspace.continuing(one) == "fca train --run one"


def test_where_nothing_can_be_written_is_found_out_beforehand(tmp_path):
    require_writable(tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(FcaError, match="cannot write"):
        require_writable(tmp_path / "file" / "folder")
