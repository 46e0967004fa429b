"""The losses of a GAN: adversarial ones, and the perceptual one of VGG-19."""

import pytest
import torch
import torch.nn.functional as F
from gan_cases import vgg19_file
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from vsr.losses import PerceptualLoss, gan_loss
from vsr.losses.perceptual import INDICES

LOGITS = torch.tensor([[-2.0, 0.5], [1.5, 3.0]], dtype=torch.float64)
FRAMES = torch.rand(2, 2, 3, 24, 20, generator=torch.Generator().manual_seed(1))
REALBASICVSR = {"2": 0.1, "7": 0.1, "16": 1.0, "25": 1.0, "34": 1.0}


@pytest.fixture(scope="module")
def whole_vgg():
    torch.manual_seed(0)
    return make_layers(cfgs["E"])


@pytest.fixture
def weights(tmp_path):
    return vgg19_file(tmp_path / "vgg19.pth")


@pytest.mark.parametrize(
    ("gan_type", "real", "fake", "generator"),
    [
        ("vanilla", lambda x: -x.sigmoid().log(), lambda x: -(1 - x.sigmoid()).log(), lambda x: -x.sigmoid().log()),
        ("lsgan", lambda x: (x - 1) ** 2, lambda x: x**2, lambda x: (x - 1) ** 2),
        ("wgan", lambda x: -x, lambda x: x, lambda x: -x),
        (
            "wgan_softplus",
            lambda x: (1 + (-x).exp()).log(),
            lambda x: (1 + x.exp()).log(),
            lambda x: (1 + (-x).exp()).log(),
        ),
        ("hinge", lambda x: (1 - x).clamp(min=0), lambda x: (1 + x).clamp(min=0), lambda x: -x),
    ],
)
def test_adversarial_losses_have_their_definitions(gan_type, real, fake, generator):
    options = {"gan_type": gan_type, "loss_weight": 0.05}
    assert gan_loss(LOGITS, True, True, **options).item() == pytest.approx(real(LOGITS).mean().item())
    assert gan_loss(LOGITS, False, True, **options).item() == pytest.approx(fake(LOGITS).mean().item())
    assert gan_loss(LOGITS, True, False, **options).item() == pytest.approx(0.05 * generator(LOGITS).mean().item())


def test_labels_can_be_smoothed():
    expected = (0.9 * F.softplus(-LOGITS) + 0.1 * F.softplus(LOGITS)).mean()
    assert gan_loss(LOGITS, True, True, real_label_val=0.9).item() == pytest.approx(expected.item())


def test_the_layers_of_vgg19_are_torchvisions(whole_vgg):
    convolutions = [index for index, layer in enumerate(whole_vgg) if isinstance(layer, nn.Conv2d)]
    assert list(INDICES.values()) == convolutions
    assert [INDICES[name] for name in ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")] == [2, 7, 16, 25, 34]


@pytest.mark.parametrize(("layers", "frames"), [(REALBASICVSR, FRAMES), (None, FRAMES[0])])
def test_the_perceptual_loss_is_that_of_torchvisions_features(tmp_path, whole_vgg, layers, frames):
    torch.save({f"features.{name}": value for name, value in whole_vgg.state_dict().items()}, tmp_path / "vgg19.pth")
    loss = PerceptualLoss(layers, str(tmp_path / "vgg19.pth"), perceptual_weight=0.5)
    sr = (frames + 0.1 * frames.flip(-1)).requires_grad_()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = torch.zeros(())
    ours, theirs = ((x.reshape(-1, 3, 24, 20) - mean) / std for x in (sr, frames))
    for index, layer in enumerate(whole_vgg[:35]):
        layer.inplace = False
        ours, theirs = layer(ours), layer(theirs)
        expected = expected + 0.5 * (layers or {"34": 1.0}).get(str(index), 0) * (ours - theirs).abs().mean()
    found = loss(sr, frames)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    slopes = [torch.autograd.grad(value, sr)[0] for value in (found, expected)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-3, atol=1e-8)


def test_names_and_indices_of_layers_mean_the_same(weights):
    by_name = PerceptualLoss({"conv2_1": 0.5, "conv1_2": 1}, weights)
    by_index = PerceptualLoss({"2": 1, "5": 0.5}, weights)
    frames = FRAMES[0]
    assert torch.equal(by_name(frames, frames.flip(-1)), by_index(frames, frames.flip(-1)))
    assert by_name(frames, frames).item() == 0


def test_only_the_restored_frames_get_gradients(weights):
    loss, gt = PerceptualLoss({"conv1_2": 1}, weights), FRAMES[0].clone().requires_grad_()
    sr = FRAMES[1].clone().requires_grad_()
    loss(sr, gt).backward()
    assert gt.grad is None and sr.grad is not None and sr.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layer_weights": {"conv1_2": 1, "conv6_1": 1}},
            r"layer_weights has no layer 'conv6_1'; .* conv1_1 \(0\), co",
        ),
        ({"layer_weights": {"3": 1}}, "layer_weights has no layer '3'"),  # an activation
        ({"layer_weights": {}}, "layer_weights is empty"),
        ({}, r"vgg19.pth' has no fitting features\.7\.weight; expected the weights of torchvision's VGG-19, https"),
    ],
)
def test_other_layers_and_weights_are_refused(weights, options, message):
    with pytest.raises(ValueError, match=message):
        PerceptualLoss(**options, weights=weights)


def test_weights_that_are_not_there_are_named_with_their_source(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere\.pth' does not exist: download .*/models/vgg19-dcbb9e9d\.pth"
    ):
        PerceptualLoss(weights=str(tmp_path / "nowhere.pth"))
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(ValueError, match=r"weights .*page\.pth is a web page: download the weights themselves"):
        PerceptualLoss(weights=str(tmp_path / "page.pth"))
