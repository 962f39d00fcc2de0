"""`label` without its server: mistakes of the user, the server's folder, and what a request may ask for."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from scripts.data.datalists import load_split
from tools.__main__ import main
from tools.label.serving.requests import RequestError, check_infer, check_name, check_train, lies_in
from tools.label.serving.streams import validation_studies, write_streams
from tools.label.workspace import make_workspace

BUNDLE = Path(__file__).parents[3] / "bundles" / "dca_synapse"
TOKEN = "0123456789abcdef-._~+/="
INFER = {"device": ["cpu"], "model_filename": ["model.pt"], "overlap": 0.25}
TRAIN = {"device": ["cpu"], "pretrained": True, "max_epochs": 4, "val_split": 0.2}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder that looks like the environment of `make label`."""
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return tmp_path / "environment"


def label(environment: Path, *options: str) -> int:
    return main(["label", "--bundle", "dca_synapse", "--environment", str(environment), *options])


def test_missing_environment_is_told_how_to_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(tmp_path / "none", "--studies", str(tmp_path)) == 2
    assert "run `make label`" in capsys.readouterr().err


def test_missing_studies_are_not_made(environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(environment, "--studies", str(tmp_path / "none")) == 2
    assert "found no such folder" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_taken_port_is_told(environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert label(environment, "--studies", str(tmp_path), "--port", port) == 2
    assert f"a free port, found 127.0.0.1:{port} taken" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "workstation", "::", "127.0.0.1.example.org", ""])
def test_only_this_machine_is_served_without_a_token(
    host: str, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DCA_LABEL_TOKEN", "")
    assert label(environment, "--studies", str(tmp_path), "--host", host) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --host: expected 127.0.0.1 where there is no token")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "token", ["short", "0123456789abcde", "0123456789 abcdef", "0123456789abcdefé", "0123456789abcdef\n"]
)
def test_token_that_can_be_guessed_or_not_be_sent_is_refused(
    token: str, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(environment, "--studies", str(tmp_path), "--token", token) == 2
    monkeypatch.setenv("DCA_LABEL_TOKEN", token)
    assert label(environment, "--studies", str(tmp_path), "--host", "0.0.0.0") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert first.startswith("error: --token: expected at least 16 letters")
    assert token.strip() not in first


@pytest.mark.parametrize("given", ["option", "variable"])
def test_server_gets_address_and_token_and_shows_the_token_to_nobody(
    given: str, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def start(*arguments: Any) -> None:
        started.extend(arguments)
        raise SystemExit  # the process is the server's from here on

    monkeypatch.setattr("os.execve", start)
    monkeypatch.setattr("os.chdir", lambda folder: None)
    monkeypatch.setenv("DCA_LABEL_TOKEN", TOKEN if given == "variable" else "")
    options = ["--token", TOKEN] if given == "option" else []
    output = ["--output", str(tmp_path / "server"), "--port", "0"]
    with pytest.raises(SystemExit):
        label(environment, "--studies", str(tmp_path), *output, "--host", "0.0.0.0", *options)
    _, command, variables = started
    assert command[command.index("--host") + 1] == "0.0.0.0"
    assert variables["DCA_LABEL_TOKEN"] == TOKEN
    assert not any(TOKEN in argument for argument in command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bundle", "dca_synaps"], "dca_amos, dca_synapse, or the path of a bundle, found 'dca_synaps'"),
        (["--model", "none.pt"], "expected the weights to serve"),
        (["--preset", "publisht"], "did you mean 'published'?"),
    ],
)
def test_wrong_argument_is_told_in_one_line(
    options: list[str], message: str, environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "server"), "--port", "0"]
    assert label(environment, "--studies", str(tmp_path), *output, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="found other files"):
        make_workspace(tmp_path, BUNDLE)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_copy_is_self_contained_and_follows_its_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    about = {"method": "supervised", "preset": "demo", "network": {"dropout": 0.1}}
    weights.with_suffix(".json").write_text(json.dumps(about))
    copy = make_workspace(tmp_path / "server", BUNDLE, weights)
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    assert (copy / "scripts" / "methods" / "dca.py").is_file()
    assert (copy / "models" / "model.pt").read_bytes() == b"weights"
    for name in ("train", "inference"):
        config = json.loads((copy / "configs" / f"{name}.json").read_text())
        chosen = (config["method"], config["preset"], config["network_options"])
        assert chosen == ("supervised", "demo", {"dropout": 0.1})
    with pytest.raises(ValueError, match="trained with"):
        make_workspace(tmp_path / "server", BUNDLE, preset="cpu")


def test_trained_model_outlives_a_new_start(tmp_path: Path) -> None:
    copy = make_workspace(tmp_path, BUNDLE)
    assert not (copy / "models" / "model.pt").exists()
    (copy / "models" / "model.pt").write_bytes(b"trained here")
    (copy / "scripts" / "stale.py").touch()
    make_workspace(tmp_path, BUNDLE)
    assert (copy / "models" / "model.pt").read_bytes() == b"trained here"
    assert not (copy / "scripts" / "stale.py").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "a\\b", "..", ".hidden", "", "a\0b", 3])
def test_name_that_could_leave_its_folder_is_refused(name: Any) -> None:
    with pytest.raises(RequestError, match="plain name"):
        check_name("tag", name)


@pytest.mark.parametrize("name", ["img0001", "1.2.840.113619.2.1", "my study 1"])
def test_name_of_a_study_is_taken(name: str) -> None:
    assert check_name("image", name) == name


@pytest.mark.parametrize(
    "params",
    [
        {"overlap": "$__import__('os').getpid()"},
        {"overlap": ["$1"]},
        {"overlap": True},
        {"overlap": 0.9},
        {"overlap": [0.5, 0.5, float("nan")]},
        {"overlap": -0.1},
        {"overlap": 10**400},
        {"device": "$torch.device('cpu')"},
        {"model_filename": "../../other.pt"},
        {"result_extension": "/../../x"},
        {"result_extension": ".txt"},
        {"result_dtype": "int8"},
        {"result_dtype": "object"},
        {"label_tag": "../x"},
        {"label_tag": "final"},
        {"label_info": "$1"},
    ],
)
def test_parameter_that_would_be_code_or_a_path_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        check_infer(params, INFER)


def test_parameters_of_a_viewer_are_taken_and_unknown_ones_left_out() -> None:
    taken = {"device": ["cpu"], "model_filename": "model.pt", "overlap": [0.5, 0.5, 0.5], "result_extension": ".nii.gz"}
    assert check_infer(taken | {"largest_cc": False, "bundle_root": "$1"}, INFER) == taken


@pytest.mark.parametrize(
    "params",
    [
        {"max_epochs": "$1"},
        {"max_epochs": 0},
        {"max_epochs": 2.5},
        {"max_epochs": [1, 2]},
        {"val_split": 1},
        {"val_split": -0.1},
        {"pretrained": "yes"},
        {"run_id": "initialize"},
        {"device": "cuda; rm"},
    ],
)
def test_training_takes_its_own_options_only(params: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        check_train(params, TRAIN)
    assert check_train(TRAIN, TRAIN) == TRAIN


@pytest.mark.parametrize("client", ["reader", None])
def test_training_takes_what_a_client_sends_along_and_leaves_it_out(client: str | None) -> None:
    assert check_train({**TRAIN, "client_id": client}, TRAIN) == TRAIN


def test_upload_is_known_by_where_its_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads, other = tmp_path / "uploads", tmp_path / "other"
    uploads.mkdir()
    (uploads / "link").symlink_to(other)
    (tmp_path / "same").symlink_to(uploads)
    for path in (uploads / "x.nii", tmp_path / "same" / "x.nii", uploads / "a" / ".." / "x.nii"):
        assert lies_in(str(path), [uploads])
        assert lies_in(str(path), [other, tmp_path / "same"])
    for path in (uploads / ".." / "other" / "x.nii", uploads / "link" / "x.nii", tmp_path / "uploads2"):
        assert not lies_in(str(path), [uploads])
    monkeypatch.chdir(uploads)
    assert not lies_in("x.nii", [uploads])  # the id of a study


def test_every_study_is_in_one_stream(tmp_path: Path) -> None:
    labelled = {name: (f"/studies/{name}.nii", f"/studies/labels/{name}.nii") for name in "abcde"}
    unlabelled = {name: f"/studies/{name}.nii" for name in ("$x", "y", "z")}
    keys = write_streams(tmp_path, labelled, unlabelled, share=0.2)
    roles = load_split(keys["datalist"], keys["split_file"], keys["percent"])
    ids = {role: [case["id"] for case in cases] for role, cases in roles.items()}
    assert len(ids["validation"]) == 1
    assert sorted(ids["labelled"] + ids["validation"]) == sorted(labelled)
    assert ids["unlabelled"] == list(unlabelled)
    assert all("label" not in case for case in roles["unlabelled"])
    assert all((case["image"], case["label"]) == labelled[case["id"]] for case in roles["labelled"])


@pytest.mark.parametrize(("names", "share"), [("a", 0.2), ("abc", 0)])
def test_studies_that_validate_and_train_are_a_split_that_says_so(tmp_path: Path, names: str, share: float) -> None:
    labelled = {name: (f"/studies/{name}.nii", f"/studies/labels/{name}.nii") for name in names}
    roles = load_split(*write_streams(tmp_path, labelled, {"x": "/studies/x.nii"}, share).values())
    assert roles["labelled"] == roles["validation"]
    assert [case["id"] for case in roles["validation"]] == list(names)


def test_validation_is_the_same_whatever_is_labelled_next() -> None:
    assert validation_studies(["a"], 0.2) == ["a"]
    assert validation_studies(["a", "b", "c"], 0) == ["a", "b", "c"]
    assert len(validation_studies(["a", "b"], 0.9)) == 1
    names = [f"study{i}" for i in range(20)]
    chosen = validation_studies(names[:10], 0.2)
    assert len(chosen) == 2
    assert chosen == validation_studies(names[9::-1], 0.2)
    assert set(validation_studies(names, 0.2)) & set(names[:10]) <= set(validation_studies(names[:10], 0.4))


def test_a_copy_of_a_study_that_validates_is_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"s{number}" for number in range(6)]
    for name in names:
        (tmp_path / f"{name}.nii").write_bytes(name.encode() * 5000)
    labelled = {name: (str(tmp_path / f"{name}.nii"), "label.nii") for name in names}
    (validates,) = validation_studies(names, 0.2)
    for copy in ("copy.nii", "s0.nii" if validates != "s0" else "s1.nii"):
        shutil.copy(tmp_path / f"{validates}.nii", tmp_path / copy)
    unlabelled = {"copy": str(tmp_path / "copy.nii")}
    roles = load_split(*write_streams(tmp_path / "lists", labelled, unlabelled, 0.2).values())
    assert [case["id"] for case in roles["validation"]] == [validates]
    trained = {case["id"] for case in roles["labelled"] + roles["unlabelled"]}
    assert trained == {*names} - {validates, "s0" if validates != "s0" else "s1"}
    assert "not trained on, since a study that validates has the same image: copy, s" in caplog.text
