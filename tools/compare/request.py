"""What the user wants compared, and the commands that it takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.errors import UserError, did_you_mean

from ..common.bundles import expect_bundle
from ..common.paths import BUNDLES
from .state import LAST, MODEL, TEST, VALIDATION, VALIDATION_LAST

# Methods in settings of their own. Labels only: with every label of the training patients, as in the first row of the
# published tables; and with as many images a step as the semi-supervised methods see. And with nnU-Net's recipe.
FULLY_SUPERVISED, SUPERVISED_4 = "fully_supervised", "supervised_4"
STRONG = {f"{method}_strong": method for method in ("supervised", "mean_teacher_cp", "dca")}
REFERENCES = {
    FULLY_SUPERVISED: {"method": "supervised", "percent": "100"},
    SUPERVISED_4: {"method": "supervised", "batch_size": "[4, 0]"},
} | {name: {"method": method, "recipe": "strong"} for name, method in STRONG.items()}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants compared.

    bundle: its folder.
    data: the dataset_dir.
    output: the comparison's folder.
    methods: names of methods, variants, or REFERENCES.
    seeds, percent, preset, steps: as in the bundle's config; None leaves its own value.
    minutes: length of each training where time is shared, not steps; `lengths` then has the steps of each method, and
        `epochs` the number of their validations.
    overrides: other settings of the config, for all methods; own: for single methods.
    test: the test set will be scored.
    scored: what of VALIDATION, VALIDATION_LAST and TEST a run may be scored on.
    what: what tells the runs from others of the same methods and seeds, for messages.
    """

    bundle: Path
    data: Path
    output: Path
    methods: Sequence[str]
    seeds: Sequence[int] = (0,)
    percent: float | None = None
    preset: str | None = None
    steps: int | None = None
    minutes: float | None = None
    lengths: Mapping[str, int] = field(default_factory=dict)
    epochs: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    test: bool = False
    scored: Sequence[str] = (VALIDATION, VALIDATION_LAST, TEST)
    what: str = ""

    @property
    def train(self) -> Path:
        """The config of the training."""
        return self.bundle / "configs" / "train.json"

    def words(self, method: str, seed: int) -> list[str]:
        """The overrides of a run, as words of a command line."""
        folder, steps = self.folder(method, seed), self.lengths.get(method, self.steps)
        epochs = self.epochs if self.epochs is None or steps is None else max(1, min(self.epochs, steps))
        settings = {
            "bundle_root": self.bundle,
            "dataset_dir": self.data,
            "run_dir": folder,
            "ckpt_dir": folder / "models",
            "method": method,
            "seed": seed,
            "percent": f"{self.percent:g}",
            "preset": self.preset,
            **({} if steps is None else {"steps": steps}),
            **({} if epochs is None else {"epochs": epochs}),
            **REFERENCES.get(method, {}),
            **self.settings(method),
        }
        return [word for key, value in settings.items() for word in (f"--{key}", str(value))]

    def settings(self, method: str) -> dict[str, str]:
        """The settings of a method that the user or its tuning made, by id."""
        return {**self.overrides, **self.own.get(method, {})}

    def folder(self, method: str, seed: int) -> Path:
        """The folder of a run."""
        return self.output / method / f"seed{seed}"

    def commands(self, method: str, seed: int) -> dict[str, list[str]]:
        """The calls of MONAI's bundle runner that a run consists of."""
        runner = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
        words, folder = self.words(method, seed), self.folder(method, seed)
        both = str([str(self.train), str(self.train.with_name("evaluate.json"))])
        evaluating = [*runner, "evaluating", "--config_file", both, *words]
        return {"training": [*runner, "training", "--config_file", str(self.train), *words, "--resume", "True"]} | {
            role: [
                *evaluating,
                "--evaluate_on",
                on,
                "--checkpoint",
                str(folder / file),
                "--output_dir",
                str(folder / role),
            ]
            for role, on, file in (
                (VALIDATION, "validation", MODEL),
                (VALIDATION_LAST, "validation", LAST),
                (TEST, "test", MODEL),
            )
            if role in self.scored
        }


def find_bundle(name: str) -> Path:
    """The folder of a bundle that can be trained.

    Raises:
        UserError: there is none of this name.
    """
    return expect_bundle(BUNDLES, name, "train.json")


def choose_methods(text: str) -> list[str]:
    """The names in a list such as "cps,dca"; "all" stands for every method of a bundle, "variants" for their variants.

    Raises:
        UserError: an unknown name.
    """
    from scripts.methods import METHODS
    from scripts.methods.variants import VARIANTS

    groups = {"all": [*METHODS], "variants": [*VARIANTS]}
    known = [*groups["all"], *groups["variants"], *REFERENCES]
    chosen: list[str] = []
    for name in filter(None, (word.strip() for word in text.split(","))):
        if name not in known and name not in groups:
            raise UserError(f"--methods: expected known names, found {name!r}; {did_you_mean(name, [*groups, *known])}")
        chosen += groups.get(name, [name])
    if not chosen:
        raise UserError(f"--methods: expected at least one name, found {text!r}; choose from {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def read_seeds(text: str, argument: str = "--seeds") -> list[int]:
    """The numbers in a list such as "0,1,2", each once.

    Raises:
        UserError: anything else.
    """
    try:
        return list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise UserError(f"{argument}: expected whole numbers such as 0,1,2, found {text!r}") from None
