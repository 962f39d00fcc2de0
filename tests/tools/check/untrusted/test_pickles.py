"""`check --untrusted`: weights that would run something when they are loaded; none is loaded."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.check.untrusted.conftest import Scan


class Evil:
    """What it is unpickled by writes the mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


SYSTEM = f"pickle {os.system.__module__}.system: is imported, and may be called, by loading this file"


def saved(content: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def member(data: bytes, old: str, new: str, content: bytes | None = None) -> bytes:
    """An archive with a member of another name, or another content."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(file, "w") as after:
        for about in before.infolist():
            changed = about.filename.endswith(old)
            kept = before.read(about)
            after.writestr(about.filename.replace(old, new), content if changed and content is not None else kept)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_weights_have_no_findings(scan: Scan, zipped: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    content = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "size": torch.Size([1]), "step": 3}
    content |= {"parameter": torch.nn.Parameter(torch.ones(2)), "half": torch.zeros(3, dtype=torch.bfloat16)}
    data = saved(content, _use_new_zipfile_serialization=zipped)
    torch.load(io.BytesIO(data), weights_only=True)  # what torch trusts, too
    assert scan({"models/model.pt": data, "a.npy": array(np.zeros(3)), "a.npz": arrays(np.zeros((2, 2)))})[:2] == (
        0,
        [],
    )


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "unknown.weights", "no_ending"])
def test_pickle_that_calls_is_named_under_every_protocol_and_name(
    scan: Scan, mark: Path, protocol: int, name: str
) -> None:
    assert scan({name: pickle.dumps(Evil(mark), protocol)})[:2] == (1, [f"{name}: {SYSTEM}"])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_weights_that_call_are_named(scan: Scan, mark: Path, zipped: bool) -> None:
    data = saved({"weights": torch.zeros(3), "evil": Evil(mark)}, _use_new_zipfile_serialization=zipped)
    _, found, _ = scan({"model.pt": data})
    assert len(found) == 1
    assert found[0].startswith("model.pt")
    assert found[0].endswith(SYSTEM)


def test_pickle_hidden_by_its_name_in_the_archive_is_named(scan: Scan, mark: Path) -> None:
    data = saved({"evil": Evil(mark)})
    for new, protocol in (("DATA.PKL", 0), ("data.txt", 2), ("data", 4)):
        hidden = member(data, "data.pkl", new, pickle.dumps(Evil(mark), protocol))
        assert any(line.endswith(SYSTEM) for line in scan({"model.pt": hidden})[1]), new


def test_pickle_behind_a_harmless_one_or_before_rubbish_is_named(scan: Scan, mark: Path) -> None:
    evil = pickle.dumps(Evil(mark), 2)
    assert scan({"a.pkl": pickle.dumps([1]) + evil})[1] == [f"a.pkl: {SYSTEM}"]
    broken = evil[:-1] + b"\xff\xff"  # runs before it fails
    found = scan({"a.pkl": broken})[1]
    assert found[0] == f"a.pkl: {SYSTEM}"
    assert "cannot be followed to its end" in found[1]
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2)  # torch's magic number alone makes no weights
    assert saved({}, _use_new_zipfile_serialization=False).startswith(start)
    assert scan({"a.pt": start + evil})[1] == [f"a.pt: {SYSTEM}"]


def test_text_whose_first_letters_are_opcodes_is_no_pickle(scan: Scan) -> None:
    text = b"cafe  LICENSE\nbeef  configs/train.json\n"
    assert scan({"SHA256SUMS": text, "NOTICE": b"(c) 2026\nimport os\n", "x.weights": b"\x00" * 100})[:2] == (0, [])


def test_names_that_one_pickle_memoises_do_not_cover_those_of_the_next(scan: Scan) -> None:
    text = lambda word: b"\x8c" + bytes([len(word)]) + word + b"\x94"  # noqa: E731  (a string, memoised)
    first = b"\x80\x04" + text(b"collections") + text(b"OrderedDict") + b"0."
    second = b"\x80\x04" + text(b"posix") + text(b"system") + b"00h\x00h\x01\x93."
    assert pickle.loads(first) == "collections"
    assert pickle.loads(second) is os.system
    assert [line for line in scan({"a.pkl": first + second})[1] if "posix.system" in line]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "getattr"),
        ("torch.hub", "load"),
        ("numpy", "load"),
        ("runpy", "run_path"),
        ("types", "FunctionType"),
        ("marshal", "loads"),
    ],
)
def test_what_is_not_known_to_be_harmless_is_named(scan: Scan, module: str, name: str) -> None:
    _, found, _ = scan({"a.pkl": f"c{module}\n{name}\n.".encode()})
    assert found == [f"a.pkl: pickle {module}.{name}: is imported, and may be called, by loading this file"]


def array(values: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def arrays(values: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, a=values)
    return file.getvalue()


def test_arrays_of_objects_are_named_with_what_they_call(scan: Scan, mark: Path) -> None:
    objects = np.array([Evil(mark)], dtype=object)
    structured = np.array([(1, Evil(mark))], dtype=[("a", "i4"), ("b", "O")])
    for data in (array(objects), array(structured)):
        _, found, _ = scan({"a.weights": data})
        assert found[0].startswith("a.weights: array of Python objects")
        assert f"a.weights: {SYSTEM}" in found
    assert any(line == f"a.npz!a.npy: {SYSTEM}" for line in scan({"a.npz": arrays(objects)})[1])


def test_torchscript_is_named_once_with_the_configs_inside(scan: Scan) -> None:
    file = io.BytesIO()
    script = torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3)))
    torch.jit.save(script, file, _extra_files={"inference.json": '{"a": "$evil()"}'})
    _, found, _ = scan({"model.weights": file.getvalue()})
    assert found[0] == "model.weights: file: is a TorchScript program: it runs with the rights of whoever calls it"
    assert [line.split("!")[1].partition("/")[2] for line in found[1:]] == [
        "extra/inference.json: a: expression $evil(): is run as Python"
    ]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/" + "x" * 200, "weights.bin"])
def test_external_data_of_onnx_that_leads_out_is_named(scan: Scan, tmp_path: Path, path: str) -> None:
    import onnx

    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=path)
    graph = onnx.helper.make_graph([], "g", [], [], initializer=[tensor])
    code, found, _ = scan({"model.onnx": onnx.helper.make_model(graph).SerializeToString()})
    shown = path if len(path) < 160 else f"{path[:160]}... ({len(path)} characters)"
    expected = [] if path == "weights.bin" else [f"model.onnx: external data: path {shown}: leads out of the bundle"]
    assert (code, found) == (len(expected), expected)


def test_pickle_without_end_is_refused_in_seconds(scan: Scan) -> None:
    for data in (b"\x80\x02" + b"N0" * 5_000_000 + b".", b"N." * 5_000_000):
        start = time.monotonic()
        code, _, error = scan({"a.pkl": data})
        assert time.monotonic() - start < 100  # not for ever
        assert (code, len(error)) == (2, 1)
        assert "expected at most 100 pickles of 500000 opcodes, found more" in error[0]


def test_broken_array_header_is_told_in_one_line(scan: Scan) -> None:
    code, _, error = scan({"a.npy": b"\x93NUMPY\x01\x00\x04\x00" + b"(((("})
    assert (code, len(error)) == (2, 1)
