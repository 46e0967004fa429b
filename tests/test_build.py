"""Building a network once to check it: sizes that PyTorch cannot hold, a missing spec, an output of another shape."""

import pytest
import torch
from torch import nn

from vsr.archs import EDVR
from vsr.archs.build import checked_network
from vsr.contracts import Spec


class ReadsValues(nn.Module):
    """Rates of stochastic depth, as many networks compute them."""

    def __init__(self, read, num_feat=3):
        super().__init__()
        self.spec = Spec()
        self.rates = read(torch.linspace(0, 0.1, 4))
        self.conv = nn.Conv2d(3, num_feat, 3, padding=1)

    def forward(self, lq):
        return self.conv(lq[:, 1])


@pytest.mark.parametrize(
    "read", [lambda x: [rate.item() for rate in x], lambda x: x.tolist(), lambda x: list(x.numpy()), lambda x: x.data]
)
def test_a_constructor_may_read_tensor_values(read):
    assert len(checked_network(lambda: ReadsValues(read)).rates) == 4


@pytest.mark.parametrize("read", [lambda x: x.tolist(), lambda x: x])
def test_a_size_out_of_range_is_refused(read):
    with pytest.raises(ValueError, match="it cannot be built with these options"):
        checked_network(lambda: ReadsValues(read, num_feat=2**60))


class Enlarges(nn.Module):
    """Enlarges the middle frame, or every frame, by a factor; says what it is given."""

    def __init__(self, spec, factor=4, every_frame=False, smallest=1):
        super().__init__()
        self.spec, self.factor, self.every_frame, self.smallest = spec, factor, every_frame, smallest
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, lq):
        if lq.shape[-1] < self.smallest:
            raise ValueError(f"frames of {lq.shape[-1]} pixels are too small")
        frames = self.conv(lq.flatten(0, 1)).repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        frames = frames.unflatten(0, lq.shape[:2])
        return frames if self.every_frame else frames[:, lq.shape[1] // 2]


@pytest.mark.parametrize(
    "network",
    [
        lambda: Enlarges(Spec(num_frames=5, scale=4)),
        lambda: Enlarges(Spec(reads="clip", scale=4), every_frame=True),
        lambda: Enlarges(Spec(scale=2, min_size=64), factor=2, smallest=64),
        lambda: EDVR(num_feat=8, hr_in=True, with_predeblur=True),
    ],
)
def test_an_output_as_the_spec_says_is_accepted(network):
    assert checked_network(network).training


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: nn.Conv2d(3, 3, 3), r"network Conv2d has no spec: set self.spec = "),
        (lambda: Enlarges({"scale": 4}), "network Enlarges has no spec"),
        (
            lambda: Enlarges(Spec(num_frames=5, scale=4), factor=2),
            r"Enlarges returns \(1, 3, 32, 32\) for an input of \(1, 5, 3, 16, 16\), but its spec says \(1, 3, 64,",
        ),
        (lambda: Enlarges(Spec(num_frames=5, scale=4), every_frame=True), r"returns \(1, 5, 3, 64, 64\) for an input"),
        (lambda: Enlarges(Spec(reads="clip", scale=4)), r"returns \(1, 3, 64, 64\).* spec says \(1, 3, 3, 64, 64\)"),
        (
            lambda: Enlarges(Spec(scale=4), smallest=64),
            r"Enlarges refuses an input of \(1, 3, 3, 16, 16\), which its spec allows: frames of 16 pixels are too",
        ),
    ],
)  # fmt: skip
def test_a_network_that_is_not_what_it_says_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        checked_network(network)


class ReadsInput(Enlarges):
    def forward(self, lq):
        return super().forward(lq) if lq.sum().item() == 0 else lq


def test_a_network_that_cannot_run_without_values_is_checked_on_the_cpu():
    assert checked_network(lambda: ReadsInput(Spec(scale=4))).spec.scale == 4
    with pytest.raises(ValueError, match=r"ReadsInput returns \(1, 3, 32, 32\) for an input"):
        checked_network(lambda: ReadsInput(Spec(scale=4), factor=2))


class Fails(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.spec, self.run, self.conv = Spec(), forward, nn.Conv2d(4, 3, 1)

    def forward(self, lq):
        return self.run(self, lq)


def test_a_constructor_that_fails_is_refused_with_its_line():
    def build():
        return nn.Conv2D(3, 3, 1)

    with pytest.raises(ValueError, match="it cannot be built with these options: AttributeError: module") as caught:
        checked_network(build)
    assert str(caught.value).endswith(f"(test_build.py, line {build.__code__.co_firstlineno + 1})")


def test_a_window_of_a_certain_length_is_advised():
    with pytest.raises(ValueError, match=r"got 9 channels.*one that needs a certain number of frames says Spec\(num_f"):
        checked_network(lambda: Fails(lambda network, lq: nn.Conv2d(15, 3, 1, device=lq.device)(lq.flatten(1, 2))))


def needs_cuda(network, lq):
    raise RuntimeError("this operator needs a CUDA tensor")


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda network, lq: network.conv(lq[:, 1]), "RuntimeError: Given groups=1, weight of size"),
        (lambda network, lq: lq[:, 1].sum().item() + network.conv(lq[:, 1]), "RuntimeError: Given groups=1, weight"),
        (lambda network, lq: network.cnov(lq[:, 1]), "AttributeError: 'Fails' object has no attribute 'cnov'"),
    ],
)
def test_a_network_that_fails_is_refused_with_its_line(forward, message):
    line = forward.__code__.co_firstlineno
    with pytest.raises(ValueError) as caught:
        checked_network(lambda: Fails(forward))
    assert str(caught.value).startswith(f"Fails fails on an input of (1, 3, 3, 16, 16): {message}")
    assert f"(test_build.py, line {line})" in str(caught.value)


@pytest.mark.parametrize(
    "forward",
    [
        needs_cuda,
        lambda network, lq: nn.functional.pad(lq[:, 1], [20, 0, 0, 0], mode="reflect")[
            ..., 20:
        ],  # of at least 21 pixels
    ],
)
def test_a_network_that_needs_a_gpu_or_more_pixels_is_accepted(forward):
    assert checked_network(lambda: Fails(forward)).spec == Spec()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reads": "windows"}, "the spec of Enlarges: reads: 'windows'; expected window or clip"),
        ({"task": "denoising"}, "task: 'denoising'; expected super-resolution or next-frame"),
        ({"scale": 0}, "scale: 0; expected a whole number of at least 1"),
        ({"multiple": 2.5}, "multiple: 2.5; expected a whole number"),
    ],
)
def test_a_spec_with_a_wrong_value_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        checked_network(lambda: Enlarges(Spec(**wrong)))
