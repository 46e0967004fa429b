"""What holds for all memory reads, and between them."""

import memory_oracle
import pytest
import torch

from vsr.memory import Flat2d, PixSentence, PixSim, PixWise
from vsr.registry import find, names

MEMORIES = {"pixsim": PixSim, "pixwise": PixWise, "pixsentence": PixSentence}
OPTIONS = {
    "default": {},
    "crop": {"crop": 3},
    "hops adjacent": {"hops": 3},
    "hops layer": {"hops": 3, "tying": "layer"},
    "cosine": {"normalize": "cosine", "hops": 2},
    "concat": {"normalize": "concat"},
    "narrow": {"embed_channels": 3, "hops": 2},
    "wide": {"embed_channels": 8, "normalize": "cosine"},
    "conv3x3": {"embedding": "conv3x3", "hops": 2},
    "fc": {"embedding": "fc", "hops": 2},
    "flat2d": {"flat2d": Flat2d(1, 1)},
    "flat2d stride 2": {"flat2d": Flat2d(2, 3)},
    "flat2d stride 2, crop": {"flat2d": Flat2d(2, 1), "crop": 3},
}
CASES = [(n, o) for n in MEMORIES for o in OPTIONS if not (n == "pixsentence" and "crop" in OPTIONS[o])]
NAIVE = [(n, o) for n, o in CASES if o != "fc" and "flat2d" not in o]
cases = pytest.mark.parametrize(("name", "options"), CASES)

B, T, C, H, W = 2, 4, 4, 5, 6


def build(name, options="default", size=(H, W), channels=C, **more):
    torch.manual_seed(0)
    module = MEMORIES[name](channels, size, **(OPTIONS[options] | more)).double()
    with torch.no_grad():  # sharper than at initialisation, so that no test passes by the weights being uniform
        for parameter in module.hops.query_embedding.parameters():
            parameter *= 4
    return module


def inputs(size=(H, W), seed=1, channels=C):
    random = torch.Generator().manual_seed(seed)
    query = torch.randn(B, channels, *size, generator=random, dtype=torch.float64)
    return query, torch.randn(B, T, channels, *size, generator=random, dtype=torch.float64)


def same(left, right):
    torch.testing.assert_close(left.query, right.query)
    torch.testing.assert_close(left.read, right.read)


def test_the_three_are_registered():
    assert set(MEMORIES) <= set(names("memory"))
    for name, component in MEMORIES.items():
        assert find("memory", name) is component


@cases
def test_shapes_weights_of_sum_one_and_a_gradient_for_every_parameter(name, options):
    module = build(name, options)
    query, sentences = inputs()
    u, read, weights = module(query, sentences, return_weights=True)
    e, window = module.hops.embed_channels, max(1, OPTIONS[options].get("crop", 1))
    assert u.shape == read.shape == (B, e, H, W)
    one_a_frame = name == "pixsim" or options == "fc"
    assert weights.shape == (B, T * window**2, *(() if one_a_frame else (H, W)))
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
    assert module(query, sentences).weights is None
    (u.square().sum() + read.square().sum()).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(("name", "options"), NAIVE)
def test_equals_the_formulas_with_every_embedding_computed(name, options):
    module = build(name, options)
    query, sentences = inputs()
    valid = torch.tensor([[True, True, False, True], [False, True, True, False]])
    for mask in (None, valid):
        u, read, weights = module(query, sentences, mask, return_weights=True)
        window = max(1, OPTIONS[options].get("crop", 1))
        expected = memory_oracle.memory(module, name, query, sentences, mask, window)
        for ours, theirs in zip((u, read, weights), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, o in CASES if o in ("crop", "cosine", "concat", "fc")])
def test_gradcheck(name, options):
    module = build(name, options, size=(3, 2), channels=2)
    query, sentences = (x.requires_grad_() for x in inputs((3, 2), channels=2))
    assert torch.autograd.gradcheck(lambda q, s: tuple(module(q, s[:, :2]))[:2], (query[:1].detach(), sentences[:1]))
    assert torch.autograd.gradcheck(lambda q, s: tuple(module(q, s[:, :2]))[:2], (query[:1], sentences[:1].detach()))


@cases
def test_the_order_of_the_sentences_is_no_matter(name, options):
    module = build(name, options)
    query, sentences = inputs()
    order = torch.tensor([2, 0, 3, 1])
    plain, permuted = module(query, sentences, None, True), module(query, sentences[:, order], None, True)
    same(plain, permuted)
    by_frame = plain.weights.unflatten(1, (T, -1))
    torch.testing.assert_close(by_frame[:, order].flatten(1, 2), permuted.weights)


@cases
def test_copies_of_a_frame_equal_one(name, options):
    module = build(name, options)
    query, sentences = inputs()
    same(module(query, sentences[:, :1]), module(query, sentences[:, :1].expand(-1, 5, -1, -1, -1)))


@cases
def test_masked_slots_equal_dropped_slots_whatever_they_hold(name, options):
    module = build(name, options)
    query, sentences = inputs()
    sentences[:, 1] = torch.nan
    valid = torch.tensor([True, False, True, True]).expand(B, T)
    masked, dropped = module(query, sentences, valid, True), module(query, sentences[:, [0, 2, 3]], None, True)
    same(masked, dropped)
    by_frame = masked.weights.unflatten(1, (T, -1))
    assert (by_frame[:, 1] == 0).all()
    torch.testing.assert_close(by_frame[:, [0, 2, 3]].flatten(1, 2), dropped.weights)


@cases
def test_an_empty_memory_reads_zero_and_leaves_the_others_alone(name, options):
    module = build(name, options)
    query, sentences = inputs()
    sentences[0] = torch.nan
    read = module(query, sentences, torch.tensor([[False] * T, [True] * T]), True)
    same_alone = module(query[1:], sentences[1:])
    torch.testing.assert_close(read.read[1:], same_alone.read)
    assert read.read[0].isfinite().all()
    assert (read.weights[0] == 0).all()
    if options != "concat":
        assert (read.read[0] == 0).all()


@cases
def test_the_newest_are_kept(name, options):
    query, sentences = inputs()
    valid = torch.tensor([[True, False, True, True], [True, True, False, True]])
    small, large = build(name, options, memory_size=2), build(name, options, memory_size=9)
    large.load_state_dict(small.state_dict())
    same(small(query, sentences, valid), large(query, sentences[:, 2:], valid[:, 2:]))


@pytest.mark.parametrize("name", ["pixsim", "pixwise"])
def test_crop_1_equals_no_crop(name):
    query, sentences = inputs()
    for ours, expected in zip(
        build(name, crop=1)(query, sentences, None, True),
        build(name, crop=0)(query, sentences, None, True),
        strict=True,
    ):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("options", ["default", "hops layer", "cosine", "concat", "flat2d", "flat2d stride 2"])
@pytest.mark.parametrize("size", [(3, 3), (4, 2), (1, 3)])
def test_a_crop_that_covers_the_map_equals_pixsentence(size, options):
    stride = 2 if "stride" in options else 1
    window = 2 * -(-max(size) // stride) - 1
    query, sentences = inputs(size)
    local = build("pixwise", options, size, crop=window)(query, sentences, None, True)
    whole = build("pixsentence", options, size)(query, sentences, None, True)
    same(local, whole)
    torch.testing.assert_close(local.weights.unflatten(1, (T, window**2)).sum(2), whole.weights)


@pytest.mark.parametrize("options", [o for o in OPTIONS if "crop" not in o])
def test_on_maps_of_one_position_all_three_agree(options):
    query, sentences = inputs((1, 1))
    reads = [build(name, options, (1, 1))(query, sentences, None, True) for name in MEMORIES]
    for other in reads[1:]:
        same(reads[0], other)
        torch.testing.assert_close(reads[0].weights.flatten(), other.weights.flatten())


@pytest.mark.parametrize("name", ["pixwise", "pixsentence"])
def test_weights_of_reduced_maps_are_upsampled_to_the_nearest(name):
    query, sentences = inputs((4, 6))
    module = build(name, "flat2d stride 2", (4, 6))
    hops = module.hops
    reduced_query, reduced_keys = hops.addressing(hops.query_embedding(query), sentences, hops.embeddings[0])
    assert reduced_query.shape[-2:] == reduced_keys.shape[-2:] == (2, 3)
    if name == "pixwise":
        expected = memory_oracle.pixwise(reduced_query, reduced_keys, reduced_keys, 1)[1]
    else:
        expected = memory_oracle.pixsentence(reduced_query, reduced_keys, reduced_keys)[1]
    expected = expected.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(module(query, sentences, None, True).weights, expected)


def sharp(name, size=(6, 7), **options):
    """A memory with identity embeddings and very sharp scores."""
    module = build(name, size=size, **options)
    with torch.no_grad():
        for embedding in (module.hops.query_embedding, *module.hops.embeddings):
            embedding.weight.copy_(torch.eye(C, dtype=torch.float64)[..., None, None])
        module.hops.query_embedding.weight *= 1e4
    return module


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (-1, 1)])
@pytest.mark.parametrize("name", ["pixsim", "pixwise"])
def test_crop_3_undoes_a_shift_of_one_pixel_and_crop_0_does_not(name, shift):
    query, _ = inputs((6, 7))
    query = query / query.norm(dim=1, keepdim=True)
    sentences = query.roll(shift, (2, 3))[:, None]  # f(x + shift) = q(x), but where roll wraps around
    inner = (..., slice(1, -1), slice(1, -1))
    read = sharp(name, crop=3)(query, sentences, None, True)
    torch.testing.assert_close(read.read[inner], query[inner])
    assert (sharp(name, crop=0)(query, sentences).read - query)[inner].abs().max() > 0.1
    number = (1 + shift[0]) * 3 + 1 + shift[1]
    chosen = read.weights[:, number] if name == "pixsim" else read.weights[:, number][inner]
    torch.testing.assert_close(chosen, torch.ones_like(chosen))


def test_pixsim_of_uniform_weights_is_the_mean_of_the_memory():
    module = build("pixsim")
    torch.nn.init.zeros_(module.tau)
    query, sentences = inputs()
    expected = module.hops.embeddings[1](sentences.mean(1))
    torch.testing.assert_close(module(query, sentences).read, expected)


@cases
def test_half_precision_under_autocast_stays_near(name, options):
    module = build(name, options).float()
    query, sentences = (x.float() for x in inputs())
    exact = module(query, sentences, None, True)
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(query, sentences, None, True)
    (rough.read.float().sum() + rough.query.float().sum()).backward()
    assert (rough.read.float() - exact.read).abs().max() < 0.25 * exact.read.abs().max()
    torch.testing.assert_close(
        rough.weights.sum(1).float(), torch.ones_like(rough.weights[:, 0]).float(), atol=0.02, rtol=0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 5, 5, 6), torch.zeros(2, 3, 4, 5, 6)), r"query is \(2, 5, 5, 6\); expected \(b, 4, h, w\)"),
        ((torch.zeros(4, 5, 6), torch.zeros(2, 3, 4, 5, 6)), "query is"),
        ((torch.zeros(2, 4, 5, 6), torch.zeros(2, 3, 4, 5, 7)), r"sentences are \(2, 3, 4, 5, 7\)"),
        ((torch.zeros(2, 4, 5, 6), torch.zeros(2, 0, 4, 5, 6)), "at least 1"),
        ((torch.zeros(2, 4, 5, 6), torch.zeros(2, 4, 5, 6)), "sentences are"),
        ((torch.zeros(2, 4, 5, 6), torch.zeros(2, 3, 4, 5, 6), torch.ones(2, 3)), "valid is torch.float32"),
        ((torch.zeros(2, 4, 5, 6), torch.zeros(2, 3, 4, 5, 6), torch.ones(2, 4, dtype=torch.bool)), r"\(2, 3\)"),
    ],
)
@pytest.mark.parametrize("name", MEMORIES)
def test_wrong_shapes_say_what_was_expected(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(name).float()(*arguments)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pixwise", {"crop": 4}, "crop is 4; the window needs a middle"),
        ("pixwise", {"crop": 13}, "crop is 13, larger than the map: on 5×6 a window of 11"),
        ("pixsim", {"crop": 7, "flat2d": Flat2d(2, 3)}, "on 3×3 a window of 5"),
        ("pixsentence", {"crop": 3}, "pixsentence searches the whole frame"),
        ("pixwise", {"crop": 3, "embedding": "fc"}, "embedding: fc compares whole maps"),
        ("pixwise", {"embedding": "fc", "flat2d": Flat2d()}, "remove flat2d"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


@pytest.mark.parametrize("name", MEMORIES)
def test_fc_refuses_another_size(name):
    query, sentences = inputs((6, 6))
    with pytest.raises(ValueError, match=r"made for maps of 5×6 and got 6×6"):
        build(name, "fc")(query, sentences)


@pytest.mark.parametrize("options", ["default", "flat2d stride 2", "hops adjacent"])
def test_weights_at_chosen_positions_have_sum_one_and_make_the_frame_weights(options):
    module = build("pixsentence", options)
    query, sentences = inputs((6, 6))
    positions = torch.tensor([[0, 0], [5, 4]])
    at = module.weights_at(query, sentences, positions)
    frames = module(query, sentences, return_weights=True).weights
    assert at.shape[:3] == (B, 2, T)
    torch.testing.assert_close(at.sum((3, 4)), frames[:, :, positions[:, 0], positions[:, 1]].transpose(1, 2))
