"""Data sets over a server on this machine: whole, broken, corrupted, absent."""
import gzip
import hashlib
import io
import struct
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from course_lib.core import datasets
from course_lib.core.datasets import fetch, is_present, load_images, read_idx

ROOT = Path(__file__).resolve().parents[2]
PIECE = 1 << 16  # what is written at a time; less than that is lost when a connection breaks
RANDOM = np.random.default_rng(0)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        content = server.files.get("wrong/" * ("/wrong/" in self.path)
                                   + self.path.rpartition("/")[2])
        server.asked.append((self.path, self.headers.get("Range")))
        server.accepted.add(self.headers.get("Accept-Encoding"))
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and server.ranges:
            start = int(self.headers["Range"][len("bytes="):-1])
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if server.encoded:
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        if server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = server.stop_after.pop(0) if server.stop_after else len(content)
        for piece in range(start, end, PIECE):
            self.wfile.write(content[piece:min(end, piece + PIECE)])
            time.sleep(server.pause)

    def log_message(self, *arguments):
        """Silence."""


@pytest.fixture
def mirror():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.accepted, server.stop_after = {}, [], set(), []
    server.ranges, server.length, server.encoded, server.pause = True, True, False, 0
    server.url = f"http://127.0.0.1:{server.server_port}/set/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def served(mirror):
    mirror.files["a.bin"] = RANDOM.bytes(200_000)
    sha256 = hashlib.sha256(mirror.files["a.bin"]).hexdigest()
    return lambda folder: fetch("a.bin", sha256, [mirror.url], folder)


def left(folder):
    """Names of the files in a folder, without locks, which may stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_comes_once(mirror, served, tmp_path):
    for _ in range(2):
        assert served(tmp_path).read_bytes() == mirror.files["a.bin"]
    assert len(mirror.asked) == 1 and mirror.accepted == {"identity"}
    assert left(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_truncated_download_goes_on_where_it_stopped(mirror, served, tmp_path, ranges):
    mirror.stop_after, mirror.ranges = [70_000, 150_000], ranges
    for _ in range(2):
        with pytest.raises(ConnectionError, match="a.bin could not be downloaded: .* broke off"):
            served(tmp_path)
        assert not (tmp_path / "a.bin").exists()
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]
    first, *later = [wanted for _, wanted in mirror.asked]
    starts = [int(wanted[len("bytes="):-1]) for wanted in later]
    assert first is None and 70_000 - PIECE <= starts[0] <= 70_000
    assert starts[0] < starts[1] <= 150_000


def test_half_a_file_of_unknown_length_is_kept(mirror, served, tmp_path):
    mirror.length, mirror.stop_after = False, [70_000]
    with pytest.raises(ConnectionError, match="broke off, and the next call goes on there"):
        served(tmp_path)
    assert left(tmp_path) == ["a.bin.part"]
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]
    assert mirror.asked[-1][1] == "bytes=70000-"


def test_the_next_mirror_goes_on_where_the_first_broke_off(mirror, tmp_path):
    mirror.files["a.bin"], mirror.stop_after = RANDOM.bytes(200_000), [150_000]
    sha256 = hashlib.sha256(mirror.files["a.bin"]).hexdigest()
    path = fetch("a.bin", sha256, [mirror.url, f"{mirror.url}second/"], tmp_path)
    assert path.read_bytes() == mirror.files["a.bin"]
    assert [asked is None for _, asked in mirror.asked] == [True, False]


def test_a_server_that_compresses_all_the_same(mirror, served, tmp_path):
    mirror.encoded = True
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]


def test_a_part_that_is_complete_is_taken(mirror, served, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(mirror.files["a.bin"])
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]


def test_a_corrupted_file_is_thrown_away(mirror, served, tmp_path):
    good = mirror.files["a.bin"]
    mirror.files["a.bin"] = good[:1000] + bytes([good[1000] ^ 1]) + good[1001:]
    with pytest.raises(ConnectionError, match="serves another file under that name: its sha256"):
        served(tmp_path)
    assert left(tmp_path) == []
    mirror.files["a.bin"] = good
    assert served(tmp_path).read_bytes() == good


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * 300_000])
def test_a_corrupted_part_is_thrown_away(mirror, served, tmp_path, part):
    (tmp_path / "a.bin.part").write_bytes(part)
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]
    assert len(mirror.asked) == 2 and left(tmp_path) == ["a.bin"]


def test_a_server_that_has_nothing_to_send(mirror, tmp_path):
    mirror.files["a.bin"] = b""
    (tmp_path / "a.bin.part").write_bytes(b"x")
    with pytest.raises(ConnectionError, match="serves another file"):
        fetch("a.bin", "0" * 64, [mirror.url], tmp_path)
    assert left(tmp_path) == []


PROCESS = """
import sys
from course_lib.core.datasets import fetch
name, sha256, mirror, folder = sys.argv[1:]
print(fetch(name, sha256, [mirror], folder).stat().st_size)
"""


def test_two_processes_share_a_download(mirror, served, tmp_path):
    mirror.files["a.bin"], mirror.pause = RANDOM.bytes(2_000_000), 0.05
    sha256 = hashlib.sha256(mirror.files["a.bin"]).hexdigest()
    command = [sys.executable, "-c", PROCESS, "a.bin", sha256, mirror.url, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["2000000\n"] * 2
    assert len(mirror.asked) == 1 and left(tmp_path) == ["a.bin"]


def test_a_dead_process_leaves_no_lock(mirror, served, tmp_path):
    mirror.pause = 0.3
    sha256 = hashlib.sha256(mirror.files["a.bin"]).hexdigest()
    command = [sys.executable, "-c", PROCESS, "a.bin", sha256, mirror.url, str(tmp_path)]
    process, end = subprocess.Popen(command), time.monotonic() + 60
    while not mirror.asked and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    mirror.pause = 0
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]


def test_a_file_damaged_on_disk_is_fetched_again(mirror, served, tmp_path):
    served(tmp_path).write_bytes(b"damaged")
    assert served(tmp_path).read_bytes() == mirror.files["a.bin"]


def test_the_next_mirror_is_tried(mirror, tmp_path):
    mirror.files["a.bin"] = b"here"
    path = fetch("a.bin", hashlib.sha256(b"here").hexdigest(),
                 ["http://127.0.0.1:1/", mirror.url], tmp_path)
    assert path.read_bytes() == b"here"
    with pytest.raises(ConnectionError, match="answered 404"):
        fetch("b.bin", "0" * 64, [mirror.url], tmp_path)
    with pytest.raises(TypeError, match="mirrors must be a list of addresses, not 'http"):
        fetch("b.bin", "0" * 64, mirror.url, tmp_path)


def test_the_second_mirror_is_good(mirror, tmp_path):
    mirror.files |= {"a.bin": b"here", "wrong/a.bin": b"<html>Sign in</html>"}
    wrong, sha256 = f"{mirror.url}wrong/", hashlib.sha256(b"here").hexdigest()
    assert fetch("a.bin", sha256, [wrong, mirror.url], tmp_path / "1").read_bytes() == b"here"
    with pytest.raises(ConnectionError, match="sha256 differs; http://127.0.0.1:1/ cannot be rea"):
        fetch("a.bin", sha256, [wrong, "http://127.0.0.1:1/"], tmp_path / "2")
    assert len(mirror.asked) == 3


def test_a_sign_in_page_is_no_network(mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    monkeypatch.setenv("COURSE_MIRROR", mirror.url)
    mirror.files["train-images-idx3-ubyte.gz"] = b"<html>Sign in</html>"
    for mirror.length in (True, False):
        with pytest.warns(UserWarning, match="mnist/ .*; digits take the place of mnist") as caught:
            assert load_images("mnist").name == "digits"
        assert [each.category for each in caught].count(UserWarning) == 1


def test_a_folder_that_cannot_be_used(mirror, served, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="folder '.*file' cannot take a.bin: "):
        served(tmp_path / "file")
    (tmp_path / "one" / "a.bin").mkdir(parents=True)
    with pytest.raises(OSError, match="folder '.*one' cannot take a.bin: "):
        served(tmp_path / "one")
    (tmp_path / "two" / "a.bin.part").mkdir(parents=True)
    with pytest.raises(OSError, match="folder '.*two' cannot take a.bin: "):
        served(tmp_path / "two")
    if Path("/dev/full").exists():
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "a.bin.part").symlink_to("/dev/full")
        with pytest.raises(OSError, match="folder '.*full' cannot take a.bin: No space left"):
            served(tmp_path / "full")
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="folder '.*' cannot take .*; digits take the place of mn"):
        assert load_images("mnist").name == "digits"
    with pytest.raises(OSError, match="folder '.*' cannot take train-images"):
        load_images("mnist", fall_back=False)


def idx(array):
    """An array as MNIST's authors wrote them, by the description on their page."""
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 3, 2), (0, 28, 28)])
def test_idx(shape):
    array = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(read_idx(idx(array)), array)
    for broken in (idx(array) + b"x", idx(array)[:-1], b"\0\0\x0d" + idx(array)[3:], b""):
        with pytest.raises(ValueError, match="content must"):
            read_idx(broken)


def serve(mirror, monkeypatch, name, contents):
    """Let a set be these files, at this mirror only."""
    mirror.files.update(contents)
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    source = replace(datasets.SOURCES[name], files=hashes)
    monkeypatch.setitem(datasets.SOURCES, name, source)
    monkeypatch.setenv("COURSE_MIRROR", mirror.url)


def test_mnist_is_read(mirror, monkeypatch, tmp_path):
    arrays = [RANDOM.integers(0, 10, shape, dtype=np.uint8)
              for shape in ((6, 28, 28), (6,), (2, 28, 28), (2,))]
    names = list(datasets.SOURCES["mnist"].files)
    serve(mirror, monkeypatch, "mnist",
          {name: gzip.compress(idx(array)) for name, array in zip(names, arrays)})
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    assert not is_present("mnist")
    data = load_images("mnist")
    assert is_present("mnist") and data.name == "mnist"
    whole = (tmp_path / "mnist" / names[2]).read_bytes()
    for damaged in (b"junk", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        (tmp_path / "mnist" / names[2]).write_bytes(damaged)
        assert not is_present("mnist")
    (tmp_path / "mnist" / names[2]).write_bytes(whole)
    assert is_present("mnist")
    for found, array in zip((data.train_images, data.train_labels, data.test_images,
                             data.test_labels), arrays):
        np.testing.assert_array_equal(found, array)
    monkeypatch.setenv("COURSE_MIRROR", "http://127.0.0.1:1/")
    assert load_images("mnist", fall_back=False).name == "mnist"      # no network needed now


def test_cifar_is_read_in_colour(mirror, monkeypatch, tmp_path):
    images = RANDOM.integers(0, 256, (6, 4, 32, 32, 3), dtype=np.uint8)      # six files of four
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for number, batch in enumerate(images):
            name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
            content = b"".join(bytes([number]) + image.transpose(2, 0, 1).tobytes()
                               for image in batch)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    serve(mirror, monkeypatch, "cifar-10", {"cifar-10-binary.tar.gz": stream.getvalue()})
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    data = load_images("cifar-10")
    np.testing.assert_array_equal(data.train_images, images[:5].reshape(-1, 32, 32, 3))
    np.testing.assert_array_equal(data.test_images, images[5])
    assert data.train_labels.tolist() == [n for n in range(5) for _ in range(4)]


def test_without_a_network_digits_take_the_place(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    monkeypatch.setenv("COURSE_MIRROR", "http://127.0.0.1:1/")
    with pytest.warns(UserWarning, match="cannot be reached; digits take the place of mnist"):
        assert load_images("mnist").name == "digits"
    with pytest.raises(ConnectionError):
        load_images("mnist", fall_back=False)


def test_the_network_is_refused_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    monkeypatch.delenv("COURSE_MIRROR", raising=False)
    with pytest.warns(UserWarning, match="digits take the place of cifar-10"):
        load_images("cifar-10")


@pytest.mark.parametrize("name", ["imagenet", "MNIST", [], None, 3])
@pytest.mark.parametrize("asked", [load_images, is_present])
def test_an_unknown_name(asked, name):
    with pytest.raises(ValueError, match="name must be one of digits, mnist"):
        asked(name)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits
    data, original = load_images("digits"), load_digits()
    assert len(data.train_labels) + len(data.test_labels) == len(original.target) == 1797
    np.testing.assert_array_equal(data.test_labels, original.target[4::5])
    np.testing.assert_allclose(data.test_images / 255, original.images[4::5] / 16, atol=0.002)


def test_digits_are_read_without_importing_scikit_learn():
    script = ("import sys; from course_lib.core.datasets import load_images; "
              "load_images('digits'); sys.exit('sklearn' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_digits_where_scikit_learn_keeps_them_elsewhere(monkeypatch):
    shipped = load_images("digits")
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    asked = load_images("digits")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        one, other = getattr(shipped, name), getattr(asked, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_digits_without_scikit_learn(monkeypatch):
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="Loading the digits needs sklearn"):
        load_images("digits")


@pytest.mark.parametrize("name", ["digits", *datasets.SOURCES])
def test_every_set_has_a_card_with_its_fingerprints(name):
    card = (ROOT / "data" / name / "CARD.md").read_text(encoding="utf-8")
    for heading in ("| source |", "| licence |", "| split |"):
        assert heading in card
    files = datasets.SOURCES[name].files if name != "digits" else {}
    assert all(f"| {file} | {sha256} |" in card for file, sha256 in files.items())


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Small files as a system's package would bring them, and no network."""
    arrays = [RANDOM.integers(0, 10, shape, dtype=np.uint8)
              for shape in ((6, 28, 28), (6,), (2, 28, 28), (2,))]
    source = replace(datasets.SOURCES["fashion-mnist"], installed=str(tmp_path / "installed"))
    monkeypatch.setitem(datasets.SOURCES, "fashion-mnist", source)
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path / "own"))
    monkeypatch.setenv("COURSE_MIRROR", "http://127.0.0.1:1/")
    return source, arrays


def test_what_a_system_package_brought_is_used(installed, tmp_path):
    source, arrays = installed
    assert not is_present("fashion-mnist")
    (tmp_path / "installed").mkdir()
    for missing, (name, array) in enumerate(zip(source.files, arrays), start=-3):
        assert not is_present("fashion-mnist"), f"{-missing + 1} files are missing"
        (tmp_path / "installed" / name).write_bytes(gzip.compress(idx(array)))
    assert is_present("fashion-mnist")
    data = load_images("fashion-mnist", fall_back=False)
    np.testing.assert_array_equal(data.train_images, arrays[0])
    assert data.classes[9] == "ankle boot" and not (tmp_path / "own").exists()


def test_a_damaged_system_package_is_passed_over(installed, tmp_path):
    (source, arrays), folder = installed, tmp_path / "installed"
    folder.mkdir()
    whole = {name: gzip.compress(idx(array)) for name, array in zip(source.files, arrays)}
    images, labels = list(whole)[:2]
    for name, damaged in ((images, b""), (images, b"junk"), (images, whole[images][:-6]),
                          (images, whole[images][:50]), (images, whole[labels]),
                          (labels, whole[images]), (labels, gzip.compress(b"\0\0\x08")),
                          (labels, gzip.compress(idx(arrays[1][:5])))):
        for file, content in {**whole, name: damaged}.items():
            (folder / file).write_bytes(content)
        assert not is_present("fashion-mnist"), damaged[:20]
        with pytest.warns(UserWarning, match="digits take the place of fashion-mnist"):
            load_images("fashion-mnist")
    (folder / labels).unlink()
    (folder / labels).mkdir()
    assert not is_present("fashion-mnist")


def test_damage_that_only_reading_shows(installed, tmp_path):
    (source, arrays), folder = installed, tmp_path / "installed"
    folder.mkdir()
    whole = {name: gzip.compress(idx(array)) for name, array in zip(source.files, arrays)}
    images, labels = list(whole)[:2]
    middle = len(whole[images]) // 2
    many = np.full(6, 11, np.uint8)
    for name, damaged in (
            (images, whole[images][:middle] + b"\0" * 9 + whole[images][middle + 9:]),
            (images, whole[images][:-8] + b"\0" * 4 + whole[images][-4:]),
            (labels, gzip.compress(idx(many)))):
        for file, content in {**whole, name: damaged}.items():
            (folder / file).write_bytes(content)
        with pytest.raises(ValueError, match="files of fashion-mnist in '.*' are damaged, so rem"):
            load_images("fashion-mnist")


@pytest.mark.parametrize("contents", [["labels"] * 4, ["images", "labels", "images", "few"],
                                      ["labels", "images", "labels", "images"]])
def test_files_that_do_not_belong_together(mirror, monkeypatch, tmp_path, contents):
    arrays = {"images": np.zeros((4, 28, 28), np.uint8), "labels": np.zeros(4, np.uint8),
              "few": np.zeros(3, np.uint8)}
    serve(mirror, monkeypatch, "mnist", {name: gzip.compress(idx(arrays[which])) for name, which
                                         in zip(datasets.SOURCES["mnist"].files, contents)})
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    with pytest.raises(ValueError, match="the files of mnist in .* are damaged.*have the shape"):
        load_images("mnist")


def test_a_damaged_archive(mirror, monkeypatch, tmp_path):
    serve(mirror, monkeypatch, "cifar-10", {"cifar-10-binary.tar.gz": gzip.compress(b"no tar")})
    monkeypatch.setenv("COURSE_DATASETS", str(tmp_path))
    with pytest.raises(ValueError, match="the files of cifar-10 in .* are damaged"):
        load_images("cifar-10")


def test_the_real_fashion_mnist():
    if not is_present("fashion-mnist"):
        pytest.skip("Fashion-MNIST is not on this machine")
    data = load_images("fashion-mnist", fall_back=False)
    assert data.train_images.shape == (60_000, 28, 28)
    for labels, each in ((data.train_labels, 6_000), (data.test_labels, 1_000)):
        np.testing.assert_array_equal(np.bincount(labels), [each] * 10)
