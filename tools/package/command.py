"""`python -m tools package`: a self-contained bundle as a folder and a zip that MONAI's own loaders accept."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json

from ..common.bundles import expect_bundle
from ..common.paths import BUNDLES
from ..common.scratch import scratch_folder
from ..common.sums import SUMS, expect_replaceable, write_sums
from ..common.torchscript import write_plain_settings

# What belongs to a bundle, named, so that runs, data, caches and private files beside it never travel along, with or
# without git. `demo.json`, `data_set.json` and `.gitkeep` serve only the checkout.
CONFIGS = ("metadata", "train", "evaluate", "inference", "multi_gpu_train", "segments")
REQUIRED = ("LICENSE", "configs/logging.conf", *(f"configs/{name}.json" for name in CONFIGS))
FURTHER = ("docs/*.md", "docs/*.txt", "splits/*.json", "scripts/**/*.py", "scripts/schemas/*.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("names", nargs="+", metavar="NAME", help='bundles such as dca_acdc, or "all"')
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--models", type=Path, help="folder of model.pt, or of a run that holds it (default: the bundle's own models/)"
    )


def run(args: argparse.Namespace) -> int:
    """Package each bundle and print what is in it.

    Raises:
        UserError: an unknown bundle, a model that does not fit it, or a target that is not a package to replace.
    """
    known = sorted(path.parent.parent.name for path in BUNDLES.glob("*/configs/metadata.json"))
    names = known if args.names == ["all"] else list(dict.fromkeys(args.names))
    for name in names:
        if name not in known and os.sep not in name:
            raise UserError(f"NAME: expected one of {', '.join(known)}, the path of a bundle, or all, found {name!r}")
    if args.models is not None and len(names) > 1:
        raise UserError(f"--models: expected one bundle beside it, found {len(names)}; package them one by one")
    for name in names:
        print(package(expect_bundle(BUNDLES, name, "metadata.json"), args.output, args.models), flush=True)
    return 0


def package(bundle: Path, output: Path, models: Path | None = None) -> str:
    """Write OUTPUT/NAME and OUTPUT/NAME_vVERSION.zip, the names that MONAI's `load` and its model zoo use.

    The same input gives the same bytes. Both appear whole, or nothing changes.

    Args:
        bundle: its folder in the checkout.
        output: folder for both.
        models: folder of model.pt, or of a run with models/model.pt; None takes the bundle's own, if there is one.

    Returns:
        Lines that say what was written.

    Raises:
        UserError: a model that does not fit the bundle, or a target that is not a package to replace.
    """
    version = str(read_json(bundle / "configs" / "metadata.json", "bundle's description")["version"])
    folder, archive = output / bundle.name, output / f"{bundle.name}_v{version}.zip"
    _expect_replaceable(folder, archive)
    source = models_folder(bundle, models)
    with scratch_folder(folder) as scratch:
        staged, zipped = scratch / bundle.name, scratch / archive.name
        copy_bundle(bundle, staged)
        if source is None:
            write_plain_settings(staged)
            model = f"no model: {bundle / 'models'} has none; train one first, or name its folder with --models"
        else:
            from .model import add_model  # here, since it imports MONAI

            model = add_model(source, staged)
        expect_no_machine_paths(staged, bundle)
        files = write_sums(staged)
        _zip(staged, zipped)
        size = zipped.stat().st_size
        if folder.exists():
            folder.rename(scratch / "replaced")
        staged.rename(folder)
        zipped.replace(archive)
    return f"{bundle.name} {version}: {len(files)} files, {size / 1e6:.1f} MB\n  {folder}\n  {archive}\n  {model}"


def _expect_replaceable(folder: Path, archive: Path) -> None:
    """A package may be replaced as long as nobody has worked in it: a model trained in there exists nowhere else."""
    expect_replaceable(folder, "package")
    if archive.exists():
        names = zipfile.ZipFile(archive).namelist() if zipfile.is_zipfile(archive) else []
        if f"{folder.name}/{SUMS}" not in names:
            raise UserError(f"{archive}: expected no such file, or an earlier package, found another; move it")


def models_folder(bundle: Path, models: Path | None) -> Path | None:
    """The folder of model.pt: in the one that the user names, or the bundle's own, or None.

    Raises:
        UserError: the one that the user names has none.
    """
    if models is None:
        return bundle / "models" if (bundle / "models" / "model.pt").is_file() else None
    for folder in (models, models / "models"):
        if (folder / "model.pt").is_file():
            return folder
    raise UserError(f"--models: expected a folder with model.pt or models/model.pt, found neither in {models}")


def copy_bundle(bundle: Path, staged: Path) -> None:
    """Copy what belongs to a bundle; a link becomes what it points to.

    So does a config's reference to data_set.json: MONAI's programs read a packaged config from any folder.
    """
    files = [bundle / name for name in REQUIRED]
    for pattern in FURTHER:
        top, rest = pattern.split("/", 1)  # `**` does not enter a link, so start behind it
        files += (bundle / top).glob(rest)
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: expected this file of every bundle, found none; restore it")
        target = staged / file.relative_to(bundle)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    for name in ("train", "inference"):
        config = staged / "configs" / f"{name}.json"
        text = config.read_text(encoding="utf-8")
        reference = json.loads(text)["data_set"]
        if isinstance(reference, str):  # not in a bundle that is a package already
            data_set = (bundle / "configs" / "data_set.json").read_text(encoding="utf-8").strip()
            data_set = data_set.replace("\n", "\n  ")
            config.write_text(text.replace(json.dumps(reference), data_set), encoding="utf-8")


def expect_no_machine_paths(staged: Path, bundle: Path) -> None:
    """Make sure that the configs of a copied bundle name no path of this machine.

    Raises:
        UserError: one that does, named as in the bundle.
    """
    for file in sorted(staged.rglob("*.json")):
        for text in _strings(read_json(file, "config of a bundle")):
            if Path(text).is_absolute():
                raise UserError(
                    f"{bundle / file.relative_to(staged)}: expected no path of this machine, found {text!r}; "
                    "make it relative to @bundle_root, or set it on the command line instead"
                )


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping | list):
        for value in content.values() if isinstance(content, Mapping) else content:
            yield from _strings(value)


def _zip(staged: Path, target: Path) -> None:
    """Everything below one top folder, in a fixed order with a fixed time, so that equal input gives equal bytes.

    Not compressed: libraries that compress differ, and weights hardly shrink.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(staged.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(f"{staged.name}/{path.relative_to(staged).as_posix()}", (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.create_system = 3  # Unix, wherever it is made
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                    shutil.copyfileobj(source, sink)
