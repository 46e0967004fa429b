"""FramePredictor and its encoders and decoders: shapes, what reaches the output, and where its options contradict."""

from functools import partial

import pytest
import torch
from torch import nn

from vsr.archs import FramePredictor, ResNetDecoder, ResNetEncoder, UNetDecoder, UNetEncoder
from vsr.archs.frame_predictor import warp
from vsr.archs.resnet import StoredNorm
from vsr.config.options import PathOptions
from vsr.engine.saving.weights import from_files
from vsr.memory import Flat2d, PixSentence, PixSim, PixWise
from vsr.utils.errors import UserError

UNET = {"encoder": partial(UNetEncoder, [3, 4, 6, 8]), "decoder": UNetDecoder, "noskip": [True, False, True]}
RESNET = {"encoder": partial(ResNetEncoder, 2), "decoder": ResNetDecoder, "noskip": [True, True]}
MEMORIES = {
    "pixsim": PixSim,
    "pixwise": PixWise,
    "pixwise crop": partial(PixWise, crop=3),
    "pixsentence": PixSentence,
    "fc": partial(PixSim, embedding="fc"),
    "conv3x3": partial(PixSim, embedding="conv3x3"),
    "flat2d": partial(PixSim, flat2d=Flat2d(2, 3)),
    "hops, few slots": partial(PixWise, hops=2, memory_size=2, embed_channels=5),
}
B, T, H, W = 2, 3, 16, 24


def build(parts=UNET, memory=PixSim, **options):
    torch.manual_seed(0)
    return FramePredictor(**parts, memory=memory, frame_size=(H, W), **options)


def frames(seed=0, size=(H, W)):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(B, 3, *size, generator=random), torch.rand(B, T, 3, *size, generator=random)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("test_type", ["nextframe", "subtract", "opticalflow"])
def test_every_parameter_has_a_gradient_and_shares_sum_to_one(memory, test_type):
    network = build(memory=MEMORIES[memory], test_type=test_type, query_sentence_separate=memory == "pixwise")
    torch.nn.init.normal_(network.decoder.image.weight)
    query, sentences = frames()
    output, weights = network(query, sentences, True)
    assert output.shape == (B, 2 if test_type == "opticalflow" else 3, H, W)
    assert network.frame_of(output, query).shape == query.shape
    for share, size in zip(weights, [(H, W), (H // 2, W // 2), (H // 4, W // 4)], strict=True):
        assert share.shape in ((B, T), (B, T, *size))
        torch.testing.assert_close(share.sum(1), torch.ones_like(share[:, 0]))
    assert network(query, sentences).weights is None
    torch.testing.assert_close(network(query, sentences).output, output)
    output.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_slots_beyond_the_memory_have_no_share_and_no_influence():
    network = build(memory=MEMORIES["hops, few slots"])
    query, sentences = frames()
    output, weights = network(query, sentences, True)
    assert all((share[:, 0] == 0).all() for share in weights)
    changed = sentences.clone()
    changed[:, 0] = 7
    assert torch.equal(network(query, changed).output, output)


@pytest.mark.parametrize("noskip", [[True, True, True], [False, True, True], [True, True, False]])
def test_only_a_skip_connection_shows_the_query_to_the_decoder(noskip):
    """With a single sentence the weights are 1 whatever the query is: what is left of it went through a skip."""
    network = build({**UNET, "noskip": noskip})
    query, sentences = frames()
    same = torch.equal(network(query, sentences[:, :1]).output, network(1 - query, sentences[:, :1]).output)
    assert same == all(noskip)


def test_separate_encoders_share_nothing():
    network = build(query_sentence_separate=True)
    own = {id(p) for p in network.encoder.parameters()}
    assert own and not own & {id(p) for p in network.sentence_encoder.parameters()}
    assert build().sentence_encoder is None


def test_resnet_predicts_too():
    network = build(RESNET)
    query, sentences = frames()
    output, weights = network(query, sentences, True)
    assert output.shape == query.shape and len(weights) == 2 and network.spec.multiple == 8
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_unet_of_few_channels_is_decoded_as_by_a_resnet():
    query, sentences = frames()
    assert build({**UNET, "decoder": ResNetDecoder})(query, sentences).output.shape == query.shape


def test_a_larger_frame_than_in_training_is_predicted():
    query, sentences = frames(size=(H * 2, W))
    assert build(memory=PixWise)(query, sentences).output.shape == query.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noskip": [True]}, "noskip has 1 entries; the encoder has 3 levels"),
        ({"encoder": partial(UNetEncoder, [3])}, "at least one level"),
        ({"encoder": partial(UNetEncoder, [1, 4, 6, 8])}, "expected 3, as frames are RGB"),
        ({"encoder": partial(ResNetEncoder, 2), "noskip": [True] * 2}, "UNetDecoder joins levels of 1, 1/2, 1/4"),
        ({"encoder": partial(ResNetEncoder, 4), "noskip": [True] * 4}, r"frame_size \[16, 24\]: .* multiples of 32"),
    ],
)
def test_parts_that_do_not_fit_are_told(change, message):
    with pytest.raises(ValueError, match=message):
        build({**UNET, **change})


def test_frames_of_a_size_that_cannot_be_halved_are_told():
    query, sentences = frames(size=(H, W + 2))
    with pytest.raises(ValueError, match="frames are 16×26; the encoder needs multiples of 4"):
        build()(query, sentences)


def test_subtract_and_flow_stand_for_frames():
    query, _ = frames()
    difference = torch.full_like(query, 0.25)
    torch.testing.assert_close(build(test_type="subtract").frame_of(difference, query), query + 0.25)
    flow = torch.zeros(B, 2, H, W)
    flow[:, 0], flow[:, 1] = 1, -2  # look one to the right, two up
    warped = build(test_type="opticalflow").frame_of(flow, query)
    torch.testing.assert_close(warped[..., 2:, :-1], query[..., :-2, 1:])


@pytest.mark.parametrize("parts", [UNET, RESNET], ids=["unet", "resnet"])
@pytest.mark.parametrize("test_type", ["subtract", "opticalflow"])
def test_an_untrained_network_of_changes_copies_the_query(parts, test_type):
    network = build(parts, test_type=test_type)
    query, sentences = frames()
    torch.testing.assert_close(network.frame_of(network(query, sentences).output, query), query)


def test_warp_of_no_flow_is_the_frame_and_the_border_is_repeated():
    frame = torch.rand(1, 3, 5, 7)
    torch.testing.assert_close(warp(frame, torch.zeros(1, 2, 5, 7)), frame)
    far = torch.zeros(1, 2, 5, 7)
    far[:, 0] = 100
    torch.testing.assert_close(warp(frame, far), frame[..., -1:].expand_as(frame))


def test_warp_has_the_gradient_of_its_formula():
    frame = torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    flow = (torch.rand(1, 2, 4, 5, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(warp, (frame, flow))


# ResNet ---------------------------------------------------------------------------------------------------------------


class WithEncoder(nn.Module):
    """A network with a part ``encoder``."""

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(num_levels)


@pytest.mark.parametrize("has_counters", [True, False])
def test_resnet_equals_torchvisions_with_its_weights(tmp_path, has_counters):
    models = pytest.importorskip("torchvision.models", exc_type=(ImportError, RuntimeError))
    torch.manual_seed(0)
    theirs = models.resnet18(weights=None).eval()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    published = theirs.state_dict()
    if not has_counters:  # as the files that torchvision publishes
        published = {name: value for name, value in published.items() if not name.endswith("num_batches_tracked")}
    torch.save(published, tmp_path / "resnet18.pth")
    network = WithEncoder(4)
    from_files(network, PathOptions({"encoder": str(tmp_path / "resnet18.pth")}))
    ours = network.encoder.train()  # the norms do not look at the batch
    image = torch.rand(2, 3, 64, 64)
    expected = []
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1((image - ours.mean) / ours.std))))
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        x = layer(x)
        expected.append(x)
    for own, other, stride in zip(ours(image), expected, ours.strides, strict=True):
        torch.testing.assert_close(own, other)
        assert own.shape[-1] == 64 // stride


def test_weights_may_be_of_more_layers_but_not_of_another_network(tmp_path):
    torch.save(ResNetEncoder(4).state_dict(), tmp_path / "four.pth")
    network = WithEncoder(2)
    from_files(network, PathOptions({"encoder": str(tmp_path / "four.pth")}))
    assert torch.equal(network.encoder.conv1.weight, torch.load(tmp_path / "four.pth")["conv1.weight"])
    torch.save(ResNetEncoder(1).state_dict(), tmp_path / "one.pth")
    with pytest.raises(UserError, match=r"one\.pth does not fit WithEncoder\.encoder: .* 25 missing.* encoder\.layer2"):
        from_files(network, PathOptions({"encoder": str(tmp_path / "one.pth")}))


def test_an_untrained_resnet_keeps_the_scale_of_its_features():
    torch.manual_seed(0)
    spreads = [float(level.std().detach()) for level in ResNetEncoder()(torch.rand(1, 3, 64, 64))]
    assert all(0.1 < spread < 10 for spread in spreads), spreads


def test_stored_norm_is_a_batch_norm_that_is_evaluated():
    norm, reference = StoredNorm(3), torch.nn.BatchNorm2d(3).eval()
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(norm.train()(x), reference(x))
    assert norm.state_dict().keys() == reference.state_dict().keys()
