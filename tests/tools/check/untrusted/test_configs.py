"""`check --untrusted`: what hostile configs would run is named, and nothing of it runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.tools.check.untrusted.conftest import Scan

CONFIG = "configs/train.json"


def config(**values: object) -> dict[str, str | bytes]:
    return {CONFIG: json.dumps(values)}


def test_bundle_of_known_classes_and_plain_values_has_no_findings(scan: Scan) -> None:
    transforms = [{"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"}]
    transforms += [
        {"_target_": "monai.transforms.ScaleIntensityd"},
        {"_target_": "monai.transforms.io.array.LoadImage"},
    ]
    files = config(
        a={"_target_": "Compose", "transforms": transforms, "_mode_": "callable"},
        b={"_target_": "torch.nn.Conv2d", "x": "@a", "pretrained": False},
        c={"_target_": "ignite.metrics.Accuracy"},
        folder="data/heart",
        d="%configs/inference.json::a",
    )
    logging = "[handler_h]\nclass=StreamHandler\nargs=(sys.stdout,)\n[formatter_f]\nformat=%(message)s\n"
    yaml = "a: &a {_target_: torch.optim.SGD, lr: 0.1}\nb:\n  <<: *a\n"
    assert scan({**files, "configs/logging.conf": logging, "b.yaml": yaml, "README.md": "cos\nsystem\n"})[:2] == (
        0,
        [],
    )


@pytest.mark.parametrize("target", ["os.system", "subprocess.run", "eval", "builtins.exec", "pathlib.Path.touch"])
def test_target_outside_monai_is_named_with_its_key_path(scan: Scan, mark: Path, target: str) -> None:
    code, found, _ = scan(config(train={"handlers": [{"_target_": target, "command": f"touch {mark}"}]}))
    assert (code, found[0]) == (
        1,
        f"{CONFIG}: train::handlers::0::_target_: target {target}: called, and not known to be harmless",
    )


@pytest.mark.parametrize(
    "target",
    [
        *("run", "run_cmd", "download_url", "monai.bundle.run", "monai.bundle.download", "monai.utils.run_cmd"),
        *("monai.apps.download_url", "monai.utils.optional_import", "monai.utils.misc.run_cmd", "load"),
        *("PerceptualLoss", "MLFlowHandler", "PersistentDataset", "monai.data.CSVDataset", "EfficientNetBN"),
        *("torch.load", "torch.hub.load", "torch.jit.load", "torch.nn.functional.torch.load", "torch.nn.Module.torch"),
        *("torch.nn.modules.activation.torch.hub.load", "monai.transforms.io.array.np.load", "ignite.metrics.FID"),
        *("monai.transforms.utils.os.system", "LoadImaged.os", "monai.LoadImaged", "evil.monai.transforms.LoadImaged"),
        *("torch.optim.sgd.torch.Tensor", "LoadImagedd", "", " LoadImaged", "monai.transforms.LoadImaged\n"),
    ],
)
def test_function_class_or_path_that_could_do_more_is_named_wherever_it_comes_from(scan: Scan, target: str) -> None:
    code, found, _ = scan(config(a={"_target_": target}))
    assert (code, len(found)) == (1, 1)
    assert found[0].startswith(f"{CONFIG}: a::_target_: target")


def test_target_that_is_computed_or_the_bundles_own_code_is_named(scan: Scan) -> None:
    _, found, _ = scan(
        config(a={"_target_": "@b"}, c={"_target_": "$__import__('os').system"}, d={"_target_": "scripts.x.F"})
    )
    assert found == [
        f"{CONFIG}: a::_target_: target @b: called, and not known to be harmless",
        f"{CONFIG}: c::_target_: expression $__import__('os').system: is run as Python",
        f"{CONFIG}: d::_target_: target scripts.x.F: the bundle's own code",
    ]


@pytest.mark.parametrize("key", ["a::_target_", "a#b#0#_target_", "+a::_target_", "+_target_"])
def test_target_that_a_merged_key_sets_is_named(scan: Scan, key: str) -> None:
    assert scan({"x.json": json.dumps({key: "os.system"})})[1] == [
        f"x.json: {key}: target os.system: called, and not known to be harmless"
    ]


def test_every_expression_is_named_also_in_disabled_required_escaped_and_metadata(scan: Scan, mark: Path) -> None:
    run = f"$open({str(mark)!r}, 'w')"
    text = json.dumps({"_target_": "Compose", "_disabled_": run, "_requires_": [run], "run": run}).replace(
        "$", "\\u0024"
    )
    code, found, _ = scan({"configs/metadata.json": text, "any/where.JSON": '["$import evil"]', "b.yml": f'"{run}"'})
    assert code == 1
    assert [line.split(": ")[:2] for line in found] == [
        ["b.yml", f"expression {run}"],
        ["any/where.JSON", "0"],
        *(["configs/metadata.json", place] for place in ("_disabled_", "_requires_::0", "run")),
    ]
    assert found[1] == "any/where.JSON: 0: expression $import evil: imports a module"


def test_key_that_hides_another_one_does_not_hide_its_value(scan: Scan) -> None:
    for name, text in (("a.json", '{"a": "$evil()", "a": 1}'), ("b.yaml", "a: $evil()\na: 1\n")):
        found = scan({name: text})[1]
        assert f"{name}: key a: stands 2 times: which one counts depends on the reader" in found
        assert f"{name}: a: expression $evil(): is run as Python" in found


def test_argument_that_monai_calls_by_its_text_is_named(scan: Scan, mark: Path) -> None:
    load = {"_target_": "LoadImage", "reader": "os.system", "command": f"touch {mark}"}
    _, found, _ = scan(config(a=load, b={"_target_": "SaveImage", "writer": ["exec"]}, **{"c::reader": "pty.spawn"}))
    assert [line.rpartition(": ")[0] for line in found] == [
        f"{CONFIG}: a::reader: argument os.system",
        f"{CONFIG}: b::writer::0: argument exec",
        f"{CONFIG}: c::reader: argument pty.spawn",
    ]


def test_flag_that_unpickles_fetches_or_debugs_is_named(scan: Scan) -> None:
    _, found, _ = scan(
        {**config(a={"_mode_": "debug", "allow_pickle": True, "weights_only": 0}), "b.yaml": "pretrained: yes"}
    )
    assert [line.rpartition(": ")[0] for line in found] == [
        "b.yaml: pretrained: flag yes",
        f"{CONFIG}: a::_mode_: mode debug",
        f"{CONFIG}: a::allow_pickle: flag true",
        f"{CONFIG}: a::weights_only: flag 0",
    ]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "~/.ssh", "~root", "a/../../b", "..\\b", "C:\\x", "\\\\host\\x", "file:///x"]
)
def test_path_and_macro_that_lead_out_of_the_bundle_are_named(scan: Scan, path: str) -> None:
    _, found, _ = scan(config(output_dir=path, b=f"%{path}/x.json::key"))
    assert [line.split(": ")[2].split()[0] for line in found] == ["path", "macro"]


def test_yaml_tag_that_would_construct_an_object_is_named_and_constructs_nothing(scan: Scan, mark: Path) -> None:
    text = f"a: 1\nb: !!python/object/apply:os.system ['touch {mark}']\n---\nc: !evil x\nd: $evil()\n"
    _, found, _ = scan({"a.yaml": text})
    assert [line.rpartition(": ")[0] for line in found] == [
        "a.yaml: line 2: tag tag:yaml.org,2002:python/object/apply:os.system",
        "a.yaml: line 4: tag !evil",
        "a.yaml: document 2::d: expression $evil()",
    ]


def test_code_in_logging_configs_is_named(scan: Scan, mark: Path) -> None:
    text = f"[DEFAULT]\nkwargs=__import__('os')\n[handler_h]\nCLASS=StreamHandler\nargs=(open({str(mark)!r}, 'w'),)\n"
    text += "[formatter_f]\nclass=os.system\n"
    found = [line.split(": ")[1] for line in scan({"configs/logging.conf": text})[1]]
    assert set(found) == {
        "DEFAULT::kwargs",
        "handler_h::kwargs",
        "handler_h::args",
        "formatter_f::kwargs",
        "formatter_f::class",
    }


def test_text_that_commands_a_terminal_is_shown_escaped_and_cut(scan: Scan) -> None:
    _, found, _ = scan(config(a="$'\x1b[2J\u202e\n'" + "x" * 500))
    assert found[0].isprintable()
    assert "\\x1b[2J\\u202e\\n" in found[0]
    assert found[0].endswith("... (509 characters): is run as Python")


TOO_LARGE = "expected a config of at most 100000 values in 100 levels, found more"
MANY = "expected a config of at most 2000 expressions of 10000 characters, found more"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("laughs.yaml", LAUGHS, TOO_LARGE),
        ("circle.yaml", "a: &a [*a]", TOO_LARGE),
        ("chain.yaml", "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else ''}]\n" for i in range(3000)), "expected"),
        ("deep.json", "[" * 100_000, "expected JSON or YAML, found what does not parse"),
        ("nested.json", "[" * 500 + "]" * 500, TOO_LARGE),
        ("deep.yaml", "[" * 100_000, "expected JSON or YAML, found what does not parse"),
        ("block.yaml", "".join(" " * i + "a:\n" for i in range(1000)), "expected"),
        ("terms.json", json.dumps({"a": "$" + " + ".join(["1"] * 20_000)}), MANY),
        ("many.json", json.dumps(["$1"] * 20_000), MANY),
        ("wide.json", json.dumps([0] * 200_000), TOO_LARGE),
        ("large.json", " " * 1_100_000, "expected at most 1048576 bytes, found more"),
        ("digits.json", '{"a": nope}', "expected JSON or YAML, found what does not parse"),
        ("binary.yaml", b"\xff\xfe\x00", "expected JSON or YAML, found what does not parse"),
        ("logging.conf", "no section", "expected an INI file, found what does not parse"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_config_that_exhausts_its_reader_ends_in_one_line_within_seconds(
    scan: Scan, name: str, text: str | bytes, reason: str
) -> None:
    start = time.monotonic()
    code, _, error = scan({name: text})
    assert (code, len(error)) == (2, 1)
    assert error[0].startswith("error: ")
    assert reason in error[0]
    assert time.monotonic() - start < 100  # not for ever
