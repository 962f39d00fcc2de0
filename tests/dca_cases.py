"""DCA small enough for tests, with its groups."""

from scripts.methods.dca import DCA
from scripts.networks import DCANet
from tests.method_cases import fixed_normalisation

GROUPS = [[1, 2], [3, 4], [5]]
# Pseudo-labels from the very pass that is trained, which leaves nothing random between two calls.
PLAIN = {"teacher_decay": 0.0, "mix": "none"}


def dca(batch_norm="train", style="unet", spatial_dims=2, network=None, **options):
    """DCA of five classes; its normalisation takes statistics of the batch ("train") or of noise ("fixed")."""
    net = DCANet(style, spatial_dims, 1, 5, 2, dropout=0.0, **(network or {}))
    net.set_groups(GROUPS)
    method = DCA(net, **(PLAIN | options))
    return method.train() if batch_norm == "train" else fixed_normalisation(method, [32] * spatial_dims)
