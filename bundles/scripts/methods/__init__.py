"""The methods and their variants by name. Choosing one is one override: `--method NAME`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import UserError, did_you_mean
from ..settings import as_flag
from ..validation import problems
from .a_and_d import AAndD
from .abd import ABD
from .adsh import Adsh
from .basak import Basak
from .base import Method
from .bcp import BCP
from .beta_fft import BetaFFT
from .cld import CLD
from .co_bionet import CoBioNet
from .cps import CPS
from .crest import CReST
from .dca import DCA
from .dhc import DHC
from .fixmatch import FixMatch
from .ga import GA
from .magicnet import MagicNet
from .mean_teacher_cp import MeanTeacherCopyPaste
from .self_training import SelfTraining
from .simis import SimiS
from .skcdf import SKCDF
from .ss_net import SSNet
from .supervised import Supervised
from .tak import TAK
from .ua_mt import UAMT
from .unimatch import UniMatch
from .urpc import URPC
from .variants import VARIANTS, Variant

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "mean_teacher_cp": MeanTeacherCopyPaste,
    "self_training": SelfTraining,
    "ua_mt": UAMT,
    "urpc": URPC,
    "cps": CPS,
    "ss_net": SSNet,
    "co_bionet": CoBioNet,
    "bcp": BCP,
    "magicnet": MagicNet,
    "abd": ABD,
    "beta_fft": BetaFFT,
    "adsh": Adsh,
    "crest": CReST,
    "simis": SimiS,
    "basak": Basak,
    "cld": CLD,
    "dhc": DHC,
    "ga": GA,
    "a_and_d": AAndD,
    "skcdf": SKCDF,
    "fixmatch": FixMatch,
    "unimatch": UniMatch,
    "tak": TAK,
    "dca": DCA,
}
PRESETS = ("cpu", "published")


def create_predictor(
    method: str, preset: str = "cpu", options: Mapping[str, Any] | None = None, **common: Any
) -> nn.Module:
    """The network that a method trains and that is deployed.

    Args:
        method: name of the method, or of a variant of one.
        preset: "published" takes the options of the method's paper, any other preset the recommended ones.
        options: arguments of the method's network that replace those, and the variant's.
        common: arguments that all networks share (style, spatial_dims, in_channels, num_classes, width, ...); of these,
            the ones that the method's network does not have and that are None are left out.

    Raises:
        UserError: an unknown method or option, or an option that is out of its range.
    """
    cls, variant = _resolve(method)
    chosen = dict(cls.published_network if preset == "published" else cls.recommended_network)
    if preset != "published" and common.get("spatial_dims") == 3:
        chosen |= cls.recommended_network_3d
    chosen |= dict(variant.network_options) | {k: v for k, v in common.items() if v is not None} | dict(options or {})
    return _call(cls.network, f"network of method {method}", chosen)


def create_method(
    name: str,
    predictor: nn.Module,
    preset: str = "cpu",
    options: Mapping[str, Any] | None = None,
    label_files: Sequence[str] = (),
    labels: Mapping[str | int, str] | None = None,
    average_decay: float = 0.0,
) -> Method:
    """A method around its predictor, made ready with the labelled set.

    Args:
        name: name of the method, or of a variant of one.
        predictor: the network from `create_predictor`.
        preset: "published" takes the options of the method's paper, any other preset the recommended ones.
        options: arguments of the method that replace the preset's, and the variant's.
        label_files: the labels of the labelled set, for methods that look at them once before training.
        labels: names of the classes, for the log.
        average_decay: above 0, a moving average of the predictor's weights with this decay is what is deployed.

    Raises:
        UserError: an unknown method or option, an option that is out of its range, unreadable labels.

    Example:
        >>> import torch
        >>> common = {"style": "unet", "spatial_dims": 2, "in_channels": 1, "num_classes": 2, "width": 4}
        >>> method = create_method("dca", create_predictor("dca", **common), label_files=["label.nii.gz"])
        >>> image, label, image_u = torch.rand(2, 1, 32, 32), torch.randint(3, (2, 32, 32)), torch.rand(2, 1, 32, 32)
        >>> sorted(method(image, label, image_u, progress=0.5))
        ['loss', 'loss_aggregation', 'loss_experts', 'loss_unlabelled']
    """
    method = unprepared_method(name, predictor, preset, options)
    method.to(next(predictor.parameters()).device)  # what it has beside its predictor, as well
    method.prepare(label_files, {int(c): name for c, name in (labels or {}).items()})
    if average_decay > 0:
        method.average_weights(average_decay)
    return method


def unprepared_method(
    name: str, predictor: nn.Module, preset: str = "cpu", options: Mapping[str, Any] | None = None
) -> Method:
    """The same as `create_method`, before it has looked at labels.

    Raises:
        UserError: an unknown method or option, or an option that is out of its range.
    """
    cls, variant = _resolve(name)
    chosen = preset_options(cls, preset, spatial_dims(predictor)) | dict(variant.options) | dict(options or {})
    method: Method = _call(cls, f"method {name}", chosen, predictor)
    return method


def learning_rate(method: str, preset: str, spatial_dims: int, otherwise: float) -> float:
    """The learning rate of SGD: that of the method's released code under "published", if it has one; else `otherwise`.

    Raises:
        UserError: an unknown method.
    """
    cls, _ = _resolve(method)
    return cls.published_lr.get(spatial_dims, otherwise) if preset == "published" else otherwise


def preset_options(cls: type[Method], preset: str, spatial_dims: int) -> dict[str, Any]:
    """The options of a method under a preset that differ from its defaults, for slices (2) or volumes (3)."""
    if preset == "published":
        return published_options(cls, spatial_dims)
    return {**cls.recommended, **(cls.recommended_2d if spatial_dims == 2 else {})}


def published_options(cls: type[Method], spatial_dims: int) -> dict[str, Any]:
    """The options of a method's paper that differ from its defaults, for slices (2) or volumes (3)."""
    return {**cls.published, **(cls.published_3d if spatial_dims == 3 else {})}


def spatial_dims(network: nn.Module) -> int:
    """Whether a network's convolutions are of slices (2) or of volumes (3)."""
    return max(p.dim() for p in network.parameters()) - 2


def _resolve(name: str) -> tuple[type[Method], Variant]:
    """The class behind the name of a method or variant, and what the variant fixes; nothing for a method itself."""
    known = [*METHODS, *VARIANTS]
    if name not in known:
        raise UserError(f"method: expected a known name, found {name!r}; {did_you_mean(str(name), known)}")
    variant = VARIANTS.get(name, Variant(name))
    return METHODS[variant.method], variant


def _call(target: Callable[..., Any], what: str, options: Mapping[str, Any], *args: Any) -> Any:
    parameters = inspect.signature(target).parameters
    known = list(parameters)[len(args) :]
    for key, value in options.items():
        if key not in known:
            raise UserError(f"{what}: expected a known option, found {key!r}; {did_you_mean(key, known)}")
        if value is not None or parameters[key].default is not None:
            for problem in problems(value, "options", key):
                raise UserError(f"{what}, {problem}")
    flags = {k: as_flag(f"{what}, {k}", v) for k, v in options.items() if isinstance(parameters[k].default, bool)}
    return target(*args, **(dict(options) | flags))
