"""`fca weights` against a server on this machine: whole or not there, gone on with, compared, and clear without a network."""

import functools
import hashlib
import http.server
import json
import socket
import threading
from dataclasses import replace
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.weights import WEIGHTS, cache_folder
from fcacli.events import Message, Progress
from fcacli.workflows.weights import fetch, survey

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several blocks


class Server(http.server.SimpleHTTPRequestHandler):
    """Files with ranges; `cut` ends a connection after so many bytes, `answers` lists what was asked for."""

    cut: int | None = None
    ranges = True
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.headers["Range"])
        if self.path == "/missing":
            self.send_error(404)
            return
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : None if self.cut is None else start + self.cut])

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """lpips-linear comes from here; caches are those of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("FCA_WEIGHTS", "TORCH_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler)) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{listening.server_port}"
        serve(monkeypatch, f"{handler.url}/alex.pth", CONTENT)
        yield handler
        listening.shutdown()


def serve(monkeypatch, url: str, content: bytes, name: str = "lpips-linear") -> None:
    """These weights come from `url` and are to be `content`."""
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(WEIGHTS, name, replace(WEIGHTS[name], source=url, sha256={WEIGHTS[name].file: digest}))


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_a_fetched_file_is_whole_verified_and_not_fetched_again(server):
    events = []
    fetch(["lpips-linear"], events.append)
    assert (cache_folder() / "alex.pth").read_bytes() == CONTENT
    assert left(cache_folder()) == ["alex.pth"]
    bars = [event for event in events if isinstance(event, Progress)]
    assert (bars[0].done, bars[-1].done, bars[-1].total) == (0, 3, 3)
    assert [event.text for event in events if isinstance(event, Message)][-1].endswith("(verified)")
    fetch(["lpips-linear"], events.append)
    assert len(server.asked) == 1 and "is here already" in events[-1].text
    row = next(row for row in survey() if row.name == "lpips-linear")
    assert (row.path, row.checksum) == (cache_folder() / "alex.pth", "verified")


def test_an_interrupted_fetch_goes_on_where_it_stopped(server):
    server.cut = 1_000_000
    with pytest.raises(FcaError, match="the connection ended after 1000000 of 3072000 bytes") as error:
        fetch(["lpips-linear"], print)
    assert "run the same command again" in error.value.hint and "FCA_WEIGHTS" in error.value.hint
    assert left(cache_folder()) == [".alex.pth.part"]
    server.cut = None
    fetch(["lpips-linear"], lambda _: None)
    assert server.asked == [None, "bytes=1000000-"]
    assert (cache_folder() / "alex.pth").read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_the_whole(server):
    server.cut = 1_000_000
    with pytest.raises(FcaError):
        fetch(["lpips-linear"], lambda _: None)
    server.cut, server.ranges, events = None, False, []
    fetch(["lpips-linear"], events.append)
    assert {event.total for event in events if isinstance(event, Progress)} == {3}
    assert (cache_folder() / "alex.pth").read_bytes() == CONTENT


def test_a_fetch_that_ended_before_it_was_renamed_is_taken_as_it_is(server):
    cache_folder().mkdir(parents=True)
    (cache_folder() / ".alex.pth.part").write_bytes(CONTENT)
    fetch(["lpips-linear"], lambda _: None)
    assert left(cache_folder()) == ["alex.pth"]


def test_another_file_than_the_one_meant_is_not_kept(server, monkeypatch):
    serve(monkeypatch, f"{server.url}/alex.pth", b"something else")
    with pytest.raises(FcaError, match="is not what was meant: its sha256 begins"):
        fetch(["lpips-linear"], lambda _: None)
    assert left(cache_folder()) == []


def test_what_cannot_be_had_is_one_error(server, monkeypatch, tmp_path):
    serve(monkeypatch, f"{server.url}/missing", CONTENT)
    with pytest.raises(FcaError, match="the server answers 404"):
        fetch(["lpips-linear"], lambda _: None)
    serve(monkeypatch, "http://127.0.0.1:9/alex.pth", CONTENT)
    with pytest.raises(FcaError, match=r"cannot fetch .*[Cc]onnection refused"):
        fetch(["lpips-linear"], lambda _: None)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FcaError, match="cannot write"):
        fetch(["lpips-linear"], lambda _: None, tmp_path / "file" / "below")


def test_offline_mode_is_honoured(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("lpips-linear", "clip"):
        with pytest.raises(FcaError, match=rf"cannot fetch {name}: offline mode is on \(HF_HUB_OFFLINE\)") as error:
            fetch([name], lambda _: None)
        assert "on a connected machine" in error.value.hint
    assert server.asked == []


def test_clip_is_asked_of_the_hub_at_one_revision(server, monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def download(hub_id, **options):
        asked.update(options, hub_id=hub_id)
        options["local_dir"].mkdir(parents=True)
        for name in options["allow_patterns"]:
            (options["local_dir"] / name).write_bytes(CONTENT)
        return str(options["local_dir"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setitem(WEIGHTS["clip"].sha256, "model.safetensors", hashlib.sha256(CONTENT).hexdigest())
    fetch(["clip-text"], lambda _: None, tmp_path / "given")
    assert (asked["hub_id"], len(asked["revision"])) == ("openai/clip-vit-base-patch32", 40)
    assert "pytorch_model.bin" not in asked["allow_patterns"]
    row = next(row for row in survey(tmp_path / "given") if row.name == "clip")
    assert (row.path, row.checksum) == (tmp_path / "given" / "clip-vit-base-patch32", "verified")


def test_a_metric_stands_for_all_that_it_needs(server, monkeypatch, tmp_path):
    with pytest.raises(Misuse, match="--fetch vmaf: there are no such weights"):
        fetch(["vmaf"], lambda _: None)
    serve(monkeypatch, f"{server.url}/trunk", CONTENT, "lpips-trunk")
    fetch(["lpips-linear", "lpips"], lambda _: None, tmp_path / "mine")
    assert left(tmp_path / "mine") == ["alex.pth", WEIGHTS["lpips-trunk"].file]
    assert len(server.asked) == 2  # the linear weights once, whatever they are called


def test_the_table_says_what_is_here_what_is_missing_and_what_is_refused_without_a_network(server, monkeypatch):
    fetch(["lpips-linear"], lambda _: None)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("it asks the network"))
    (cache_folder() / "i3d_pretrained_400.pt").write_bytes(b"another")
    outcome = CliRunner().invoke(app, ["weights"])
    assert outcome.exit_code == 0, outcome.output
    said = outcome.stdout
    assert "psnr, ssim, flickering need no weights" in said
    assert f"verified: {cache_folder() / 'alex.pth'}" in said
    assert "refused: " in said and "missing; fca weights --fetch inception" in said
    for row in survey():
        assert row.path or all(f"sha256 of {f}: {s}" in said for f, s in [*row.sha256.items()][:1])
        assert row.what in said and row.licence in said and (row.path or row.source in said)
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["weights", "--json"]).stdout)["weights"]}
    assert list(rows) == list(WEIGHTS) and rows["inception"]["path"] is None
    assert rows["lpips-linear"]["checksum"] == "verified" and rows["lpips-linear"]["stated_by"]
