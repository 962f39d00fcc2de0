"""What deployment needs of the networks: TorchScript and ONNX that equal the eager network."""

import onnxruntime
import pytest
import torch

from scripts.networks import DCANet, SegmentationNet

SIZES = [(32, 48, 16), (21, 32, 9)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(spatial_dims):
    return [torch.randn(1, 1, *size[:spatial_dims]) for size in SIZES]


@torch.no_grad()
def assert_same(exported, net, spatial_dims):
    for image in images(spatial_dims):
        torch.testing.assert_close(exported(image), net(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "style", "spatial_dims", "options"),
    [
        (DCANet, "unet", 2, {"prediction": "mean"}),
        (DCANet, "vnet", 3, {"prediction": "aggregated", "dfam": "projected"}),
        (DCANet, "unet", 2, {"prediction": "stitched", "stitching": "logits", "dfam": "none"}),
        (DCANet, "vnet", 3, {"dfam": "projected", "dfam_levels": 2, "expert_levels": 3, "deep_supervision": True}),
        (SegmentationNet, "vnet", 3, {}),
        (SegmentationNet, "unet", 2, {"deep_supervision": True}),
    ],
)
def test_torchscript_equals_the_eager_network(tmp_path, network, style, spatial_dims, options):
    net = network(style, spatial_dims, 1, 3, 4, **options).eval()
    path = tmp_path / "model.ts"
    torch.jit.script(net).save(path)
    assert_same(torch.jit.load(path), net, spatial_dims)


def test_torchscript_carries_the_groups():
    net = DCANet("unet", 2, 1, 3, 4, prediction="stitched").eval()
    net.set_groups([[3], [1], [2]])
    assert_same(torch.jit.script(net), net, 2)


def onnx_runtime(net, image, path, **options):
    """The exported network as a function of tensors."""
    torch.onnx.export(net, (image,), path, dynamo=True, verbose=False, **options)
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def test_onnx_with_free_sizes_equals_the_eager_network(tmp_path):
    net = DCANet("unet", 2, 1, 3, 4, prediction="mean").eval()
    free = dict.fromkeys([0, 2, 3], torch.export.Dim.DYNAMIC)
    exported = onnx_runtime(net, torch.randn(2, 1, 32, 32), tmp_path / "net.onnx", dynamic_shapes=[free])
    assert_same(exported, net, 2)


def test_onnx_in_3d_equals_the_eager_network(tmp_path):
    net = DCANet("vnet", 3, 1, 3, 4).eval()
    image = torch.randn(1, 1, 32, 16, 16)
    exported = onnx_runtime(net, image, tmp_path / "net.onnx")
    with torch.no_grad():
        torch.testing.assert_close(exported(image), net(image), atol=1e-4, rtol=1e-4)
