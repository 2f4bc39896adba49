"""Third-party files: fetched from a loopback origin, resumed, refused when changed."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scaling.cli import main
from scaling.fits import published
from scaling.readers import external
from scaling.readers.external import Source, check, copy, fault, fetch, fetch_all, sources

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()
ONE = Source(
    "set/a=1.bin", "owner/name", "c0ffee", "data/a=1.bin", SHA256, len(BODY), "MIT"
)  # fmt: skip


class Origin(BaseHTTPRequestHandler):
    """Serves BODY, honours Range if `skips`, stops after `limit` bytes, records the requests."""

    skips, limit, body = True, None, BODY
    requested: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        self.requested.append((self.path, requested))
        start = int(requested[6:-1]) if requested and self.skips else 0
        self.send_response(404 if "absent" in self.path else 206 if start else 200)
        self.send_header("Content-Length", str(len(self.body) - start))
        self.end_headers()
        self.wfile.write(self.body[start : self.limit])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin(request):
    settings = getattr(request, "param", {})
    handler = type("Handler", (Origin,), settings | {"requested": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


def test_a_file_is_fetched_from_the_pinned_commit_and_then_kept(origin, tmp_path):
    url, handler = origin
    get = partial(fetch, origin=url)
    assert [did for did, _ in fetch_all(tmp_path, [ONE], get)] == ["fetched"]
    assert (tmp_path / ONE.file).read_bytes() == BODY
    assert [did for did, _ in fetch_all(tmp_path, [ONE], get)] == ["kept"]
    assert handler.requested == [("/owner/name/c0ffee/data/a%3D1.bin", None)]


@pytest.mark.parametrize("origin", [{"limit": 1000}], indirect=True)
def test_a_broken_download_says_so_and_the_next_call_goes_on_from_it(origin, tmp_path):
    url, handler = origin
    with pytest.raises(ValueError, match="broke off at 1000 of 10240 bytes"):
        fetch(ONE, tmp_path, url)
    assert fault(ONE, tmp_path) == "missing"
    handler.limit = None
    fetch(ONE, tmp_path, url)
    assert handler.requested[1][1] == "bytes=1000-"
    assert not fault(ONE, tmp_path)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("origin", [{"skips": False}], indirect=True)
def test_an_origin_that_cannot_skip_sends_the_file_anew(origin, tmp_path):
    part = tmp_path / (ONE.file + ".part")
    part.parent.mkdir()
    part.write_bytes(b"x" * 77)
    fetch(ONE, tmp_path, origin[0])
    assert not fault(ONE, tmp_path)


@pytest.mark.parametrize("origin", [{"body": BODY[::-1]}], indirect=True)
def test_other_bytes_than_those_pinned_are_not_kept(origin, tmp_path):
    with pytest.raises(ValueError, match=f"pinned is {ONE.sha256}"):
        fetch(ONE, tmp_path, origin[0])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_network_and_a_missing_file_are_distinguished_in_one_line(origin, tmp_path):
    absent = Source(*(vars(ONE) | {"path": "absent"}).values())
    with pytest.raises(ValueError, match="the origin answers 404"):
        fetch(absent, tmp_path, origin[0])
    with pytest.raises(ValueError, match=r"cannot reach .*--from") as caught:
        fetch(ONE, tmp_path, "http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_changed_file_is_found_and_fetched_again(origin, tmp_path):
    path = tmp_path / ONE.file
    path.parent.mkdir()
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(ValueError, match=r"1 of 1 files: set/a=1.bin \(changed\)"):
        check(tmp_path, [ONE])
    assert [did for did, _ in fetch_all(tmp_path, [ONE], None)] == ["wanted"]
    fetch(ONE, tmp_path, origin[0])
    check(tmp_path, [ONE])


def test_a_folder_that_holds_the_files_is_as_good_as_a_network(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "folder"
    (source / "set").mkdir(parents=True)
    (source / ONE.file).write_bytes(BODY)
    assert [did for did, _ in fetch_all(folder, [ONE], partial(copy, origin=source))] == ["fetched"]
    assert not fault(ONE, folder)


def test_every_listed_file_has_a_pin_a_licence_and_a_place_of_its_own():
    files = sources()
    assert len({s.file for s in files}) == len(files)
    assert all(len(s.commit) == 40 and len(s.sha256) == 64 and s.bytes > 0 for s in files)
    assert {s.licence for s in files} == {"MIT", "Apache-2.0"}
    assert all(s.url().startswith(f"{external.ORIGIN}/{s.repository}/{s.commit}/") for s in files)


def test_the_list_is_all_that_the_refits_read(tmp_path):
    try:
        root = published.external()
    except ValueError as error:
        pytest.skip(str(error))
    for _ in fetch_all(tmp_path, sources(), partial(copy, origin=root)):
        pass
    assert len(published.chinchilla_points(tmp_path)[1]) == 240
    for name in ("cruxeval_input", "cruxeval_output", "tau_bench", "obs_scaling", "reflexion"):
        assert len(published.refit(name, tmp_path))
    assert (tmp_path / "gsm8k" / "example_model_solutions.jsonl").exists()
    assert len(list((tmp_path / "tree-of-thoughts").rglob("*cot_sample_100*.json"))) == 1
    for dataset in ("c4_original", "rpj"):
        assert len(published.gadre_points(tmp_path, dataset)[1]) == 5
    for which in published.GEMSTONES:
        assert len(published.gemstone_points(tmp_path, which)[1])
    assert len(published.boardlaw_points(tmp_path)[1]) == 707


def test_the_command_says_what_it_would_do_and_names_what_a_folder_lacks(tmp_path, capsys):
    assert main(["external", "--dry-run", "--to", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert out.count("wanted") == len(sources())
    assert external.ORIGIN in out
    assert not (tmp_path / "new").exists()
    assert main(["external", "--from", str(tmp_path), "--to", str(tmp_path / "new")]) == 1
    assert "24 of 24 files: boardlaw/flops_curves.svg (missing)" in capsys.readouterr().err
