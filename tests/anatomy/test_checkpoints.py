"""The header reader against the safetensors library, and against every way a file can be broken."""

import io
import json
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile

import pytest

from course_lib.anatomy.checkpoints import (DTYPE_BITS, MAX_HEADER, TensorInfo, find_checkpoint,
                                            is_checkpoint, read_header)

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def pack(header, data=b"", length=None):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def write(tmp_path, content, name="model.safetensors"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def refused(path, *, match, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        read_header(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


# ---- what is right ----------------------------------------------------------------------------

def test_a_file_is_read(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "w": ENTRY,
              "scale": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
              "none": {"dtype": "I64", "shape": [4, 0], "data_offsets": [26, 26]}}
    path = write(tmp_path, pack(header, bytes(26)))
    assert read_header(str(path)) == [
        TensorInfo("w", "F32", (2, 3), 6, 24, str(path)),
        TensorInfo("scale", "BF16", (), 1, 2, str(path)),
        TensorInfo("none", "I64", (4, 0), 0, 0, str(path))]


def test_an_empty_checkpoint_and_padding_are_legal(tmp_path):
    assert read_header(write(tmp_path, pack(b"{}      "))) == []


def test_order_follows_the_bytes_not_the_json(tmp_path):
    header = {"second": {"dtype": "U8", "shape": [1], "data_offsets": [3, 4]},
              "first": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}
    assert [t.name for t in read_header(write(tmp_path, pack(header, bytes(4))))] == [
        "first", "second"]


@pytest.mark.parametrize("dtype, count, size", [
    ("F4", 6, 3), ("F6_E2M3", 4, 3), ("F6_E3M2", 8, 6), ("F8_E8M0", 5, 5), ("F8_E4M3", 5, 5),
    ("F8_E5M2", 5, 5), ("F8_E4M3FNUZ", 5, 5), ("F8_E5M2FNUZ", 5, 5), ("C64", 2, 16),
    ("BOOL", 3, 3), ("U16", 2, 4), ("F64", 2, 16)])
def test_sizes_by_dtype(tmp_path, dtype, count, size):
    header = {"w": {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}}
    [tensor] = read_header(write(tmp_path, pack(header, bytes(size))))
    assert (tensor.count, tensor.bytes) == (count, size)


def test_part_of_a_byte_is_refused(tmp_path):
    header = {"w": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}
    refused(write(tmp_path, pack(header, bytes(1))), match="needs 1.5 bytes")


def test_every_dtype_is_one_that_the_library_accepts_too(tmp_path):
    from safetensors import safe_open
    for dtype, bits in DTYPE_BITS.items():
        header = {"w": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}
        path = write(tmp_path, pack(header, bytes(bits)))
        with safe_open(path, "np") as file:
            assert file.get_slice("w").get_dtype() == dtype
        assert read_header(path)[0].bytes == bits


# ---- what is broken ---------------------------------------------------------------------------

def test_missing(tmp_path):
    refused(tmp_path / "none.safetensors", match="there is no file", error=FileNotFoundError)
    refused(tmp_path, match="no .safetensors file", error=FileNotFoundError)


@pytest.mark.parametrize("content, match", [
    (b"", "has 0 bytes"),
    (b"\x10\x00\x00", "has 3 bytes"),
    (struct.pack("<Q", 64), "truncated: the header claims 64 bytes and 0 follow"),
    (pack({"w": ENTRY}, bytes(24), length=5000), "truncated: the header claims 5,000 bytes"),
    (pack({"w": ENTRY}, bytes(23)), "truncated: its tensors take 24 bytes and 23 follow"),
    (pack({"w": ENTRY}, bytes(30)), "6 bytes after its last tensor"),
    (pack(b"{}", length=MAX_HEADER + 1), "claims 100,000,001 bytes, and the format's limit"),
    (pack(b"{}", length=2**64 - 1), "the format's limit is 100,000,000"),
    (pack(b"[1, 2]"), "no header begins"),
    (pack(b"{'w': 1}"), "not JSON"),
    (pack(b'{"w": '), "not JSON"),
    (pack(b'{"\xff": 1}'), "not UTF-8"),
    (pack(b'{"a":' * 200_000), "nested too deeply|not JSON"),
    (pack(b'{"w": ' + json.dumps(ENTRY).encode() + b', "w": ' + json.dumps(ENTRY).encode() + b"}",
          bytes(24)), "the key 'w' comes twice"),
    (pack(b'{"w": {"dtype": "F32", "dtype": "F16", "shape": [], "data_offsets": [0, 2]}}',
          bytes(2)), "the key 'dtype' comes twice"),
    (pack({"w": 3}), "not described by dtype, shape and data_offsets"),
    (pack({"w": {"dtype": "F32", "shape": []}}), "not described by"),
    (pack({"__metadata__": {"n": 1}}), "__metadata__ is no map"),
    (pack({"__metadata__": []}), "__metadata__ is no map"),
    (pack({"w": ENTRY | {"dtype": "F31"}}, bytes(24)), "unknown dtype 'F31'"),
    (pack({"w": ENTRY | {"dtype": ["F32"]}}, bytes(24)), "unknown dtype"),
    (pack({"w": ENTRY | {"shape": [2, 4]}}, bytes(24)),
     "needs 32 bytes, and its data_offsets hold 24"),
    (pack({"w": ENTRY | {"shape": [-2, -3]}}, bytes(24)), "no list of whole numbers"),
    (pack({"w": ENTRY | {"shape": [2.0, 3.0]}}, bytes(24)), "no list of whole numbers"),
    (pack({"w": ENTRY | {"shape": "23"}}, bytes(24)), "no list of whole numbers"),
    (pack({"w": ENTRY | {"shape": [True, 6]}}, bytes(24)), "no list of whole numbers"),
    (pack({"w": ENTRY | {"shape": [2**62, 2**62]}}, bytes(24)), "more elements than any file"),
    (pack({"w": ENTRY | {"shape": [10**30]}}, bytes(24)), "no list of whole numbers"),
    (pack({"w": ENTRY | {"data_offsets": [24, 0]}}, bytes(24)), r"no \[begin, end\]"),
    (pack({"w": ENTRY | {"data_offsets": [0, 24, 24]}}, bytes(24)), r"no \[begin, end\]"),
    (pack({"w": ENTRY | {"data_offsets": [-24, 0]}}, bytes(24)), r"no \[begin, end\]"),
    (pack({"w": ENTRY | {"data_offsets": [8, 32]}}, bytes(32)),
     "begins at byte 8 and leaves a hole"),
    (pack({"w": ENTRY, "v": ENTRY | {"data_offsets": [12, 36]}}, bytes(36)),
     "begins at byte 12 and overlaps"),
    (pack({"w": ENTRY, "v": ENTRY}, bytes(24)), "overlaps"),
])
def test_damage_is_one_sentence(tmp_path, content, match):
    refused(write(tmp_path, content), match=match)


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", "x")
    return stream.getvalue()


@pytest.mark.parametrize("content, match", [
    (pickle.dumps({"w": 1}, protocol=2), "pickle"),
    (pickle.dumps({"w": 1}, protocol=4), "pickle"),
    (zipped(), "zip archive, as torch.save"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    (b"GGUF\x03\x00\x00\x00" + bytes(100), "GGUF"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    (b"<!DOCTYPE html><html></html>", "web page"),
    (b"hello, world, this is text", "no header begins"),
    (bytes(200), "no header begins"),
])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "weights.h5"])
def test_other_formats_are_named_and_never_opened(tmp_path, content, match, name):
    refused(write(tmp_path, content, name), match=match)


def test_a_pickle_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    with pytest.raises(ValueError, match="pickle"):
        read_header(write(tmp_path, pickle.dumps(Bomb()), "pytorch_model.bin"))
    assert not (tmp_path / "executed").exists()


def test_a_hostile_shape_is_refused_quickly(tmp_path):
    header = {"w": {"dtype": "F32", "shape": [2**62] * 300_000, "data_offsets": [0, 0]}}
    path = write(tmp_path, pack(header))
    began = time.process_time()
    refused(path, match="more elements")
    assert time.process_time() - began < 20  # 0.2 s; multiplied out, it would take hours


def test_only_the_header_is_read(tmp_path):
    path = tmp_path / "sparse.safetensors"
    size = 2**40  # a terabyte that takes no space on disk
    header = pack({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + size)
    assert read_header(path)[0].count == size


# ---- several files ----------------------------------------------------------------------------

@pytest.fixture
def sharded(tmp_path):
    write(tmp_path, pack({"a": ENTRY}, bytes(24)), "model-00001-of-00002.safetensors")
    write(tmp_path, pack({"b": ENTRY}, bytes(24)), "model-00002-of-00002.safetensors")
    return {"metadata": {"total_size": 48}, "weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}


def write_index(tmp_path, index):
    return write(tmp_path, json.dumps(index).encode(), "model.safetensors.index.json")


def test_shards_are_read_through_their_index(tmp_path, sharded):
    path = write_index(tmp_path, sharded)
    tensors = read_header(path)
    assert [(t.name, t.count) for t in tensors] == [("a", 6), ("b", 6)]
    assert tensors == read_header(tmp_path)
    assert {t.file for t in tensors} == {str(tmp_path / f) for f in sharded["weight_map"].values()}


@pytest.mark.parametrize("change, match, error", [
    ({"c": "model-00003-of-00003.safetensors"}, "not beside it: 'model-00003-of-00003",
     FileNotFoundError),
    ({"c": "model-00001-of-00002.safetensors"}, "lacks what the index promises: 'c'", ValueError),
    ({"b": None}, "sends tensor 'b' to None", ValueError),
    ({"b": "../b.safetensors"}, "not the name of a file beside it", ValueError),
    ({"b": "/etc/passwd"}, "not the name of a file beside it", ValueError),
])
def test_a_wrong_index_is_refused(tmp_path, sharded, change, match, error):
    sharded["weight_map"].update(change)
    with pytest.raises(error, match=match):
        read_header(write_index(tmp_path, sharded))


def test_a_tensor_that_the_index_omits_is_refused(tmp_path, sharded):
    write(tmp_path, pack({"b": ENTRY, "extra": ENTRY | {"data_offsets": [24, 48]}}, bytes(48)),
          "model-00002-of-00002.safetensors")
    with pytest.raises(ValueError, match="holds what the index does not list: 'extra'"):
        read_header(write_index(tmp_path, sharded))


@pytest.mark.parametrize("content, match", [
    (b"{}", "weight_map is missing"), (b'{"weight_map": {}}', "weight_map is missing or empty"),
    (b'{"weight_map": []}', "weight_map is missing"), (b"[]", "not a JSON object"),
    (b"not json", "not JSON"), (b"\xff\xfe", "not UTF-8"),
    (b'{"weight_map": {"a": "x", "a": "y"}}', "the key 'a' comes twice")])
def test_a_broken_index_is_one_sentence(tmp_path, content, match):
    refused(write(tmp_path, content, "model.safetensors.index.json"), match=match)


def test_a_damaged_shard_is_the_one_that_is_named(tmp_path, sharded):
    write(tmp_path, pack({"b": ENTRY}, bytes(20)), "model-00002-of-00002.safetensors")
    with pytest.raises(ValueError, match="model-00002-of-00002.safetensors.*truncated"):
        read_header(write_index(tmp_path, sharded))


def test_a_folder_with_several_checkpoints_asks_which(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        write(tmp_path, pack(b"{}"), name)
    with pytest.raises(ValueError, match="several checkpoints.*'a.safetensors', 'b.safetensors'"):
        find_checkpoint(tmp_path)
    write(tmp_path, pack(b"{}"), "model.safetensors")
    assert find_checkpoint(tmp_path).name == "model.safetensors"


def test_what_counts_as_a_checkpoint(tmp_path):
    assert is_checkpoint("x.safetensors") and is_checkpoint("x.safetensors.index.json")
    assert is_checkpoint(write(tmp_path, b"", "pytorch_model.bin"))
    assert not is_checkpoint("gpt2") and not is_checkpoint(tmp_path) and not is_checkpoint(7)


# ---- against the library ----------------------------------------------------------------------

def random_file(rng):
    import torch
    dtypes = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64,
              torch.bool, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64]
    return {f"layer.{i}": torch.zeros([rng.randrange(4) for _ in range(rng.randrange(4))],
                                      dtype=rng.choice(dtypes)) for i in range(rng.randrange(6))}


def opened_by_the_library(path):
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        return {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}


def test_two_hundred_random_files_read_as_the_library_reads_them(tmp_path):
    from safetensors.torch import save
    rng = random.Random(0)
    for _ in range(200):
        tensors = random_file(rng)
        path = write(tmp_path, save(tensors, {"format": "pt"} if rng.random() < 0.5 else None))
        ours = read_header(path)
        assert {t.name: (t.dtype, t.shape) for t in ours} == opened_by_the_library(path)
        assert {t.name: (t.count, t.bytes) for t in ours} == {
            name: (x.numel(), x.nbytes) for name, x in tensors.items()}


@pytest.mark.slow
def test_of_two_thousand_damaged_files_none_is_read_that_the_library_refuses(tmp_path):
    from safetensors import SafetensorError
    from safetensors.torch import save
    rng, agreed = random.Random(1), 0
    for _ in range(2000):
        content = bytearray(save(random_file(rng)))
        head = 8 + struct.unpack("<Q", content[:8])[0]
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(head)] = rng.choice(b'0123456789[]{},:"FUIB\x00\xff ')
        path = write(tmp_path, bytes(content[:rng.choice([len(content), len(content) - 1])]))
        try:
            theirs = opened_by_the_library(path)
        except SafetensorError:
            with pytest.raises(ValueError):
                read_header(path)
            agreed += 1
            continue
        try:  # we may be stricter (a second name, a leading space), never different
            ours = {t.name: (t.dtype, t.shape) for t in read_header(path)}
        except ValueError:
            continue
        assert ours == theirs
    assert agreed > 1000


def test_the_standard_library_is_enough():
    code = ("import sys, course_lib.anatomy.checkpoints\n"
            "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'safetensors', 'pickle')))")
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=".").returncode == 0
