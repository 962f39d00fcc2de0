"""What a request may ask for. Values of a request reach a bundle's config, where a string is code: none gets there."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

logger = logging.getLogger(__name__)

NAME = re.compile(r"^(?!\.)[\w .+=@-]{1,200}$")  # an id or a tag: no separator, so that it cannot leave its folder
IMAGES = (".nii.gz", ".nii", ".nrrd")  # what is read
RESULTS = (*IMAGES, ".seg.nrrd")  # what is written
DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")  # ITK has no images of int8
LOG_LEVELS = ("debug", "info", "warning", "error")
MOST_EPOCHS = 10000
MOST_WEIGHT = 1000
MOST_OVERLAP = 0.8  # of windows; beyond, their number is that of the voxels, and nobody waits for the end
MOST_NUMBER = 2**53  # up to which every reader of JSON has the same number
MOST_TEXT = 64 * 1024  # bytes of JSON; what viewers send has some hundreds
MOST_LEVELS = 8
SENT_ALONG = ("client_id", "name", "description")  # by MONAI Label's client and plugins, whatever they ask for
TO_CHOOSE_FROM = ("label_tag", "labels")  # sent along with a request for the next study


class RequestError(ValueError):
    """A request that cannot be served as it stands; `status` is the HTTP status to answer with."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def check_name(what: str, value: Any) -> str:
    """An id or a tag of a client.

    Raises:
        RequestError: anything that is no plain file name.
    """
    if not isinstance(value, str) or not NAME.match(value) or ".." in value:
        raise RequestError(f"{what}: expected a plain name, found {value!r}")
    return value


def check_json(value: Any, levels: int = MOST_LEVELS) -> Any:
    """JSON that can be stored and sent again: finite numbers, whole characters, and no deep nesting.

    Raises:
        RequestError: anything else that a parser lets pass.
    """
    if isinstance(value, dict | list):
        if not levels:
            raise RequestError(f"params: expected JSON of at most {MOST_LEVELS} levels, found more")
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            check_json(part, levels - 1)
    elif isinstance(value, str):
        if not value.isascii() and value.encode(errors="replace").decode() != value:
            raise RequestError(f"params: expected text, found half a character in {value[:80]!r}")
    elif isinstance(value, int | float) and not -MOST_NUMBER <= value <= MOST_NUMBER:  # nor NaN
        raise RequestError(f"params: expected numbers of at most {MOST_NUMBER}, found another")
    return value


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in a field of a form.

    Raises:
        RequestError: no JSON, no object, or see `check_json`.
    """
    try:
        content = json.loads(text or "{}") if len(text) <= MOST_TEXT else None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"params: expected a JSON object, found text that does not parse ({error})") from None
    if not isinstance(content, dict):
        raise RequestError(f"params: expected a JSON object of at most {MOST_TEXT} bytes, found {text[:80]!r}")
    return dict(check_json(content))


def sent_along(params: Mapping[str, Any]) -> dict[str, str]:
    """Who asks, of the parameters of a request; kept with a study or a label."""
    return {name: params[name][:200] for name in SENT_ALONG if isinstance(params.get(name), str)}


def check_label_info(params: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept with a label: what a viewer says of its segments, and who sent it.

    Raises:
        RequestError: no list of objects.
    """
    info = params.get("label_info") or []
    if not isinstance(info, list) or not all(isinstance(one, dict) for one in info):
        raise RequestError(f"label_info: expected a list of objects, found {info!r}")
    return {**sent_along(params), "label_info": info}


def file_name(sent: str | None) -> str:
    """The name of an uploaded file, without the folders that some clients send along, in harmless characters."""
    name = re.sub(r"[^\w .+=@-]", "_", PureWindowsPath(sent or "").name).lstrip(".")[-100:]
    return name or "file"


def check_ending(what: str, name: str) -> str:
    """The ending of a file's name.

    Raises:
        RequestError: another than that of an image.
    """
    ending = next((one for one in IMAGES if name.endswith(one)), None)
    if ending is None:
        raise RequestError(f"{what}: expected a file that ends in {', '.join(IMAGES)}, found {name!r}")
    return ending


def lies_in(path: str, folders: Iterable[str | Path]) -> bool:
    """Whether an absolute path leads into one of the folders, however it is written and whatever links it takes."""
    where = Path(path)
    return where.is_absolute() and any(where.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)


def check_option(name: str, value: Any, offered: Any) -> Any:
    """A value for an option that the app offers with a default, or with a list to choose from.

    Raises:
        RequestError: a value of another kind than the default, or one that is not in the list.
    """
    if isinstance(offered, list) and all(isinstance(choice, str) for choice in offered):
        if value == offered or (isinstance(value, str) and value in offered):
            return value
        raise RequestError(f"{name}: expected one of {', '.join(offered)}, found {value!r}")
    if isinstance(offered, bool):
        fits = isinstance(value, bool)
    elif isinstance(offered, str):
        raise RequestError(f"{name}: this server does not let it be set")
    else:  # a number, or numbers: either may stand for the other, as one per axis
        fits = _is_number(value) or (isinstance(value, list) and 0 < len(value) <= 3 and all(map(_is_number, value)))
    if not fits:
        raise RequestError(f"{name}: expected a value like {offered!r}, found {value!r}")
    return value


def check_infer(params: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an inference request that the server acts on; the rest, which some viewers send along, is left out.

    Args:
        params: the request's parameters.
        options: what the model offers, with its defaults.

    Raises:
        RequestError: a known parameter with a value that it cannot have.
    """
    checks = {
        "result_extension": lambda value: value in RESULTS,
        "result_dtype": lambda value: value in DTYPES,
        "result_compress": lambda value: isinstance(value, bool),
        "save_label": lambda value: isinstance(value, bool),
        "label_info": lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
        "logging": lambda value: str(value).lower() in LOG_LEVELS,
    }
    checked = {}
    for name, value in params.items():
        if name == "label_tag":
            checked[name] = check_name(name, value)
            if value == "final":  # what training learns from: only a person says so
                raise RequestError(f"{name}: expected another tag for a prediction, found {value!r}")
        elif name == "device":
            checked[name] = check_device(value, options.get("device", []))
        elif name in options:
            checked[name] = check_option(name, value, options[name])
            if name == "overlap" and not all(0 <= one <= MOST_OVERLAP for one in _listed(value)):
                raise RequestError(f"{name}: expected a share from 0 to {MOST_OVERLAP}, found {value!r}")
        elif name in checks:
            if value is None:
                continue
            if not checks[name](value):
                raise RequestError(f"{name}: expected another value, found {value!r}")
            checked[name] = value
        else:
            logger.info("left out of an inference request: %s", name)
    return checked


def check_train(params: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a training request.

    Raises:
        RequestError: a known parameter with a value that it cannot have, or one that a training does not have.
    """
    checked = check_options(params, options)
    epochs = checked.get("max_epochs", 1)
    if not isinstance(epochs, int) or not 1 <= epochs <= MOST_EPOCHS:
        raise RequestError(f"max_epochs: expected a whole number from 1 to {MOST_EPOCHS}, found {epochs!r}")
    share = checked.get("val_split", 0)
    if not _is_number(share) or not 0 <= share < 1:
        raise RequestError(f"val_split: expected a share from 0 to below 1, found {share!r}")
    return checked


def check_options(params: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request that has nothing but the options that the app offers.

    Raises:
        RequestError: a value that an option cannot have, or no such option.
    """
    checked = {}
    for name, value in params.items():
        if name == "device":
            checked[name] = check_device(value, options["device"])
        elif name in options:
            checked[name] = check_option(name, value, options[name])
        elif name not in SENT_ALONG:
            raise RequestError(f"{name}: expected one of {', '.join(options)}, found no such option")
    return checked


def check_weights(params: Mapping[str, Any], options: Mapping[str, float]) -> dict[str, Any]:
    """The weights of the groups of classes in a request for the next study, without what viewers add to it.

    Raises:
        RequestError: a weight that is no number from 0 on, no weight above 0, or no such option.
    """
    weights = {name: value for name, value in params.items() if name not in SENT_ALONG + TO_CHOOSE_FROM}
    for name, value in weights.items():
        if name not in options:
            raise RequestError(f"{name}: expected one of {', '.join(options)}, found no such option")
        if not _is_number(value) or not 0 <= value <= MOST_WEIGHT:
            raise RequestError(f"{name}: expected a weight from 0 to {MOST_WEIGHT}, found {value!r}")
    if not any({**options, **weights}.values()):
        raise RequestError(f"{', '.join(options)}: expected a weight above 0, found none")
    return weights


def check_device(value: Any, offered: list[str]) -> Any:
    """A device by the name that the app offers, or as torch names it.

    Raises:
        RequestError: anything else.
    """
    if value == offered or value in offered or (isinstance(value, str) and re.match(r"^(cpu|cuda(:\d{1,2})?)$", value)):
        return value
    raise RequestError(f"device: expected one of {', '.join(offered)}, found {value!r}")


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -MOST_NUMBER <= value <= MOST_NUMBER  # a comparison that NaN fails


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
