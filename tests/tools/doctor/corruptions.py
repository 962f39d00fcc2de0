"""Ways to spoil a data set of labelled CT, and what the doctor has to say of each."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests import damage

Spoil = Callable[[Path], object]  # what is done to the folder of the data set
IMAGE, LABEL = "images/abdomen003.nii.gz", "labels/abdomen003.nii.gz"
OTHER, OTHER_LABEL = "images/abdomen005.nii.gz", "labels/abdomen005.nii.gz"


@dataclass(frozen=True)
class Corruption:
    """A spoiled data set, and the finding that must be among those of the doctor: where, and words of it."""

    spoil: Spoil
    severity: str
    kind: str
    file: str
    words: str = ""


def to(file: str, change: damage.Damage) -> Spoil:
    """The damage, done to one file."""
    return lambda folder: change(folder / file)


def voxels(file: str, new: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Other voxels in one volume."""
    return to(file, damage.change(new))


def both(new: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """The same change to an image and its label."""

    def spoil(folder: Path) -> None:
        for file in (IMAGE, LABEL):
            damage.change(new)(folder / file)

    return spoil


def header(file: str, change: Callable[[Any], None]) -> Spoil:
    """Another header, the voxels as they were."""

    def spoil(folder: Path) -> None:
        image = nib.nifti1.load(folder / file)
        copy = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header.copy())
        change(copy.header)
        (folder / file).write_bytes(_packed(copy))

    return spoil


def _packed(image: Any) -> bytes:
    return gzip.compress(image.to_bytes(), 1)


def listed(change: Callable[[dict[str, Any]], None], name: str = "datalist.json") -> Spoil:
    """Another datalist or split file."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def case(key: str, value: Any) -> Spoil:
    """Another value in the record of the third case; None leaves the key out."""

    def change(content: dict[str, Any]) -> None:
        content["cases"][2].pop(key, None)
        if value is not None:
            content["cases"][2][key] = value

    return listed(change)


def replaced(make: Callable[[Path], object]) -> Spoil:
    """Something else in the place of the image."""

    def spoil(folder: Path) -> None:
        (folder / IMAGE).unlink()
        make(folder / IMAGE)

    return spoil


def stored(image: Callable[[np.ndarray, np.ndarray], Any]) -> Spoil:
    """The image stored in another way: from its voxels and affine."""

    def spoil(folder: Path) -> None:
        old = nib.nifti1.load(folder / IMAGE)
        (folder / IMAGE).write_bytes(_packed(image(np.asarray(old.dataobj), old.affine)))

    return spoil


def restored(change: Callable[[Any], Any]) -> Spoil:
    """Image and label of one patient stored in another way: from what nibabel reads."""

    def spoil(folder: Path) -> None:
        for file in (IMAGE, LABEL):
            old = nib.nifti1.load(folder / file)
            (folder / file).write_bytes(_packed(change(nib.Nifti1Image(np.asarray(old.dataobj), old.affine))))

    return spoil


def copied(change: Callable[[np.ndarray, np.ndarray], Any], file: str = IMAGE, onto: str = OTHER) -> Spoil:
    """One patient's file in the place of another's, after a change to its voxels and affine."""

    def spoil(folder: Path) -> None:
        old = nib.nifti1.load(folder / file)
        (folder / onto).write_bytes(_packed(change(np.asarray(old.dataobj), old.affine)))
        if onto == OTHER:
            label = nib.nifti1.load(folder / OTHER_LABEL)
            new = nib.nifti1.load(folder / onto)
            turned = nib.orientations.ornt_transform(
                nib.orientations.io_orientation(label.affine), nib.orientations.io_orientation(new.affine)
            )
            (folder / OTHER_LABEL).write_bytes(_packed(label.as_reoriented(turned)))

    return spoil


def without(number: int, files: int = 8, first: int = 1) -> Spoil:
    """A class in none of the labels from the first on."""

    def spoil(folder: Path) -> None:
        for i in range(first, files + 1):
            path = folder / f"labels/abdomen{i:03d}.nii.gz"
            damage.change(lambda label: np.where(label == number, 0, label).astype(label.dtype))(path)

    return spoil


RIGHT_KIDNEY, LEFT_KIDNEY, GALLBLADDER, LIVER = 2, 3, 4, 6


def _pixdim(h: Any) -> None:
    h["pixdim"][1] *= 2


def _qform(h: Any) -> None:
    moved = h.get_sform()
    moved[:3, 3] += 20
    h.set_qform(moved, 1)


def _affine(h: Any, value: float) -> None:
    h["srow_x"] = value
    h["sform_code"], h["qform_code"] = 1, 0


CORRUPTIONS: dict[str, Corruption] = {
    "image gone": Corruption(lambda f: (f / IMAGE).unlink(), "error", "image", IMAGE, "no such file"),
    "image cut off": Corruption(to(IMAGE, damage.cut_off), "error", "image", IMAGE, "unreadable"),
    "image with bytes overwritten": Corruption(to(IMAGE, damage.overwrite_some), "error", "image", IMAGE, "unreadable"),
    "image of text": Corruption(replaced(lambda p: p.write_text("x")), "error", "image", IMAGE, "not NIfTI"),
    "image empty": Corruption(replaced(lambda p: p.write_bytes(b"")), "error", "image", IMAGE),
    "image a folder": Corruption(replaced(Path.mkdir), "error", "image", IMAGE, "not a file"),
    "image a pipe": Corruption(replaced(lambda p: os.mkfifo(p)), "error", "image", IMAGE, "not a file"),
    "image a device": Corruption(replaced(lambda p: p.symlink_to("/dev/zero")), "error", "image", IMAGE, "not a file"),
    "image with NaN": Corruption(to(IMAGE, damage.set_voxel(np.nan)), "error", "image", IMAGE, "1 voxels of NaN"),
    "image with infinity": Corruption(to(IMAGE, damage.set_voxel(np.inf)), "error", "image", IMAGE, "NaN or Inf"),
    "image of four axes": Corruption(voxels(IMAGE, lambda v: v[..., None].repeat(2, 3)), "error", "image", IMAGE, "4D"),
    "image of two axes": Corruption(voxels(IMAGE, lambda v: v[..., 0]), "error", "image", IMAGE, "2D"),
    "image without voxels": Corruption(voxels(IMAGE, lambda v: v[:, :0]), "error", "image", IMAGE, "no voxel"),
    "image complex": Corruption(
        stored(lambda v, a: nib.Nifti1Image(v.astype(np.complex64), a)), "error", "image", IMAGE, "complex64"
    ),
    "image in colours": Corruption(
        stored(lambda v, a: nib.Nifti1Image(np.zeros(v.shape, [(c, "u1") for c in "RGB"]), a)),
        *("error", "image", IMAGE, "voxel type"),
    ),
    "affine singular": Corruption(header(IMAGE, lambda h: _affine(h, 0)), "error", "image", IMAGE, "affine"),
    "affine of NaN": Corruption(header(IMAGE, lambda h: _affine(h, np.nan)), "error", "image", IMAGE),
    "image constant": Corruption(voxels(IMAGE, lambda v: v * 0 - 100), "error", "image", IMAGE, "-100"),
    "slices repeated": Corruption(
        both(lambda v: np.concatenate([v[..., :20], *[v[..., 19:20]] * (v.shape[2] - 20)], 2)),
        *("warning", "repeated slices", IMAGE, "equal to the one before"),
    ),
    "pixdim and affine differ": Corruption(header(IMAGE, _pixdim), "warning", "two spacings", IMAGE, "pixdim"),
    "qform and sform differ": Corruption(header(IMAGE, _qform), "warning", "two places", IMAGE, "34.6 mm"),
    "CT without its intercept": Corruption(
        voxels(IMAGE, lambda v: (v + 1024).clip(0)), "error", "image", IMAGE, "no value below -50"
    ),
    "MR among CT": Corruption(
        voxels(IMAGE, lambda v: ((v + 1000) / 2000 * 255).clip(0, 255).astype(np.uint8)), "error", "image", IMAGE
    ),
    "CT of another unit": Corruption(
        voxels(IMAGE, lambda v: (v * 4 + 500).astype(np.int16)), "warning", "intensities", IMAGE, "HU"
    ),
    "spacing ten times as large": Corruption(
        restored(lambda image: nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([10, 10, 10, 1]))),
        *("warning", "spacing", IMAGE, "mm"),
    ),
    "image stored along other axes": Corruption(
        restored(lambda image: image.as_reoriented(nib.orientations.axcodes2ornt("ASL"))),
        *("note", "orientation", IMAGE, "LAS, as of most"),
    ),
    "label gone": Corruption(lambda f: (f / LABEL).unlink(), "error", "label", LABEL, "no such file"),
    "label cut off": Corruption(to(LABEL, damage.cut_off), "error", "label", LABEL, "unreadable"),
    "label of another shape": Corruption(to(LABEL, damage.keep(np.s_[1:])), "error", "label", LABEL, "x"),
    "label moved": Corruption(to(LABEL, damage.change(lambda v: v, shift=5)), "error", "label", LABEL, "by 5 mm"),
    "label with a foreign value": Corruption(
        to(LABEL, damage.set_voxel(200)), "error", "label", LABEL, "200 (1 voxels)"
    ),
    "label with a fraction": Corruption(to(LABEL, damage.set_voxel(1.5)), "error", "label", LABEL, "1.5 (1"),
    "label with a negative value": Corruption(to(LABEL, damage.set_voxel(-1)), "error", "label", LABEL, "-1 (1"),
    "label empty": Corruption(voxels(LABEL, lambda v: v * 0), "warning", "empty label", LABEL, "background only"),
    "left and right kidney exchanged": Corruption(
        voxels(LABEL, damage.swap(RIGHT_KIDNEY, LEFT_KIDNEY)), "error", "sides", LABEL, "on the left of left kidney"
    ),
    "image and label mirrored": Corruption(both(lambda v: v[::-1]), "error", "mirrored", LABEL, "pairs of classes"),
    "image and label upside down": Corruption(both(lambda v: v[..., ::-1]), "error", "mirrored", LABEL, "pairs"),
    "image and label back to front": Corruption(both(lambda v: v[:, ::-1]), "error", "mirrored", LABEL, "pairs"),
    "label of another patient": Corruption(
        copied(nib.Nifti1Image, LABEL, OTHER_LABEL), "error", "duplicate label", OTHER_LABEL, LABEL
    ),
    "label moved within its grid": Corruption(
        voxels(LABEL, lambda v: np.roll(v, v.shape[0] // 2, 0)), "warning", "class intensities", LABEL, "of the image"
    ),
    "class in fragments": Corruption(
        voxels(LABEL, damage.scattered(LIVER)), "warning", "fragments", LABEL, "liver in one piece"
    ),
    "class nearly gone": Corruption(
        voxels(LABEL, damage.most_of(LIVER)), "warning", "class volume", LABEL, "ml of liver"
    ),
    "image under two patients": Corruption(
        copied(nib.Nifti1Image), "error", "duplicate image", OTHER, "once the same image in"
    ),
    "image under two patients, stored along other axes": Corruption(
        copied(lambda v, a: nib.Nifti1Image(v, a).as_reoriented(nib.orientations.axcodes2ornt("PIL"))),
        *("error", "duplicate image", OTHER, "once the same image in"),
    ),
    "image under two patients, with noise": Corruption(
        copied(
            lambda v, a: nib.Nifti1Image((v + np.random.default_rng(0).normal(0, 9, v.shape)).astype(np.float32), a)
        ),
        *("error", "duplicate image", OTHER, "nearly the same image in"),
    ),
    "image of a training patient among the tests": Corruption(
        copied(nib.Nifti1Image, IMAGE, "images/abdomen008.nii.gz"),
        "error",
        "leakage",
        "images/abdomen008.nii.gz",
        "(train)",
    ),
    "id given twice": Corruption(case("id", "abdomen001"), "error", "datalist", "datalist.json", "abdomen001 twice"),
    "case without an image": Corruption(case("image", None), "error", "datalist", "case 2", "a key 'image'"),
    "case without a patient": Corruption(case("patient", ["p"]), "error", "datalist", "case 2", "['p']"),
    "cases no list": Corruption(listed(lambda c: c.update(cases={})), "error", "datalist", "datalist.json", "dict"),
    "classes without numbers": Corruption(
        listed(lambda c: c.update(labels={"liver": 1})), "error", "datalist", "datalist.json", "liver"
    ),
    "file changed since it was listed": Corruption(
        voxels(IMAGE, lambda v: v + 1), "warning", "changed file", IMAGE, "another content"
    ),
    "patient with two roles": Corruption(
        listed(lambda c: c["test"].append(c["train"][0]), "split.json"), "error", "split", "split.json", "in both"
    ),
    "patient of the split not in the data": Corruption(
        listed(lambda c: c["train"].append("stranger"), "split.json"), "error", "split", "split.json", "stranger"
    ),
    "validation without a label": Corruption(
        listed(lambda c: c["cases"][-2].pop("label")),
        *("error", "missing label", "images/abdomen007.nii.gz", "none"),
    ),
    "class in no label": Corruption(without(GALLBLADDER), "error", "class never seen", "labelled cases", "gallbladder"),
    "class in a single label": Corruption(
        without(GALLBLADDER, first=2), "note", "class seen once", "labels/abdomen001.nii.gz", "gallbladder"
    ),
}
