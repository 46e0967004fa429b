"""The engine's promises: phases that hold, and switches that do what they say."""

import math
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from training import BATCH_NORM, assert_same_weights, copy_until, log_of, rows, small_options, weights

from vsr.data.sources.folder import FolderStore
from vsr.engine import players, trainer
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


# freezing -------------------------------------------------------------------------------------------------------------

MEMORY = {"type": "EDVRMemory", "map_size": [8, 8], "memory": {"type": "pixwise"}}


def with_memory(clips, **changes):
    """Returns options of a network with memory around the EDVR that ``pretrained`` trained."""
    keeping = {"logger__save_checkpoint_freq": 1, "logger__keep_states": 9}
    options = small_options(clips, datasets__val=None, **keeping, **changes)
    options["network_g"] |= MEMORY
    options |= {"trainer": "FreezeTrainer"}
    options["path"] = {"pretrain_network_g": "experiments/pretrained/models/net_g_1.pth", "strict_load_g": False}
    return options


def test_loaded_parameters_stay_frozen_until_tsa_iter_also_after_resuming(tmp_path, clips, train):
    train(small_options(clips, name="pretrained", train__total_iter=1, datasets__val=None))
    train(with_memory(clips, name="whole", train__tsa_iter=4))
    train(with_memory(clips, name="halves", train__tsa_iter=4))
    for file in (tmp_path / "experiments" / "halves").rglob("*"):  # as if it had been killed after 2
        number = file.stem.removeprefix("net_g_")
        if number.isdigit() and int(number) > 2:
            file.unlink()
    file = tmp_path / "experiments" / "pretrained" / "models" / "net_g_1.pth"
    file.rename(tmp_path / "gone.pth")
    with pytest.raises(UserError, match=r"net_g_1\.pth does not exist"):
        train(with_memory(clips, name="anew", train__tsa_iter=4))
    train(with_memory(clips, name="halves", train__tsa_iter=4), "--auto_resume")
    (tmp_path / "gone.pth").rename(file)
    assert "halves/training_states/2.state at iteration 2" in log_of(tmp_path, "halves")

    pretrained = weights(tmp_path, "pretrained", 1)["params"]
    for name in ("whole", "halves"):
        frozen, free = weights(tmp_path, name, 3)["params"], weights(tmp_path, name, 4)["params"]
        for key in frozen:
            loaded = key in pretrained and "fusion" not in key
            assert not loaded or torch.equal(frozen[key], pretrained[key]), key
        assert not torch.equal(free["conv_first.weight"], frozen["conv_first.weight"])
    assert_same_weights(weights(tmp_path, "whole", 6), weights(tmp_path, "halves", 6))
    assert "matched" in log_of(tmp_path, "whole")


def test_freezing_needs_weights_to_freeze(clips, train):
    options = with_memory(clips)
    options["path"] = {}
    with pytest.raises(UserError, match="FreezeTrainer freezes loaded weights"):
        train(options)
    train(options | {"trainer": "ScratchTrainer"})
    longer = with_memory(clips, train__total_iter=7)
    longer["path"] = {}  # a state knows what was loaded, and nothing was
    with pytest.raises(UserError, match="this training began with none"):
        train(longer, "--auto_resume", "--resume_mode", "new_schedule")


def test_freezing_everything_leaves_nothing_to_train(clips, train):
    train(small_options(clips, name="pretrained", train__total_iter=1, datasets__val=None))
    options = small_options(clips, trainer="FreezeTrainer", datasets__val=None)
    options["path"] = {"pretrain_network_g": "experiments/pretrained/models/net_g_1.pth"}
    with pytest.raises(UserError, match="nothing is left to train"):
        train(options)


# switches -------------------------------------------------------------------------------------------------------------


def final_weights(folder, train, clips, name, **changes):
    train(small_options(clips, name=name, train__total_iter=3, datasets__val=None, train__ema_decay=0, **changes))
    return weights(folder, name, 3)


def test_checkpointing_computes_the_same(tmp_path, clips, train):
    plain = final_weights(tmp_path, train, clips, "plain")
    assert_same_weights(plain, final_weights(tmp_path, train, clips, "recomputed", train__checkpointing=True))


def test_checkpointing_counts_a_batch_once(tmp_path, clips, train):
    plain = final_weights(tmp_path, train, clips, "plain", **BATCH_NORM)
    assert_same_weights(plain, final_weights(tmp_path, train, clips, "again", train__checkpointing=True, **BATCH_NORM))
    assert plain["params"]["head.norm.num_batches_tracked"] == 3


def test_accumulated_batches_equal_one_large_batch(tmp_path, clips, train):
    large = final_weights(tmp_path, train, clips, "large", datasets__train__batch_size_per_gpu=4)
    small = final_weights(tmp_path, train, clips, "small", datasets__train__batch_size_per_gpu=2, train__accumulate=2)
    for name, value in large["params"].items():
        torch.testing.assert_close(small["params"][name], value, rtol=1e-3, atol=2e-5)


def test_accumulated_sums_equal_one_large_sum(tmp_path, clips, train):
    loss = {"train__pixel_opt": {"type": "L1Loss", "reduction": "sum"}}
    train(small_options(clips, name="large", datasets__train__batch_size_per_gpu=4, train__total_iter=1, **loss))
    train(small_options(clips, name="small", train__accumulate=2, train__total_iter=1, **loss))
    for large, small in zip(rows(tmp_path, "large")[1:3], rows(tmp_path, "small")[1:3], strict=True):
        assert float(small[2]) == pytest.approx(float(large[2]), rel=1e-5)  # loss, loss_per_value


OPERATORS = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.conv,
    torch.backends.mkldnn.matmul,
)


@pytest.fixture
def global_switches(monkeypatch):
    """Puts back what a training sets for its whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    precisions = {operator: operator.fp32_precision for operator in OPERATORS}
    yield
    for operator, precision in precisions.items():
        operator.fp32_precision = precision
    torch.use_deterministic_algorithms(False)


def test_the_average_has_the_layout_of_the_network(clips, train, monkeypatch):
    """Or it is moved tensor by tensor instead of all at once."""
    strides = []

    def note(average, network, decay):
        for module in (average, network):
            strides.append([parameter.stride() for parameter in module.parameters()])

    monkeypatch.setattr(players, "update_average", note)
    train(small_options(clips, train__total_iter=1, datasets__val=None, train__channels_last=True))
    assert strides[0] == strides[1]
    assert any(0 < stride[1] < stride[3] for stride in strides[0] if len(stride) == 4), "channels are innermost"


@pytest.mark.parametrize(
    ("decay", "start", "warns"), [(0.999, None, True), (0.2, None, False), (0.999, "first", False)]
)
def test_an_average_of_mostly_random_weights_is_named(tmp_path, clips, train, decay, start, warns):
    saves = {"logger__save_checkpoint_freq": 1}
    options = small_options(clips, train__total_iter=2, train__ema_decay=decay, datasets__val=None, **saves)
    if start is not None:
        train(small_options(clips, name=start, train__total_iter=1, train__ema_decay=0, datasets__val=None))
        options["path"] = {"pretrain_network_g": f"experiments/{start}/models/net_g_1.pth"}
    train(options)
    text = "the average in net_g_1.pth is still 100 % the random weights at the start (train.ema_decay 0.999)"
    assert (text in log_of(tmp_path, "small")) == warns
    assert log_of(tmp_path, "small").count("the random weights") == (warns or decay == 0.2), "once a training"


def test_a_state_without_loss_scaling_goes_on_with_it(clips, train, monkeypatch):
    train(small_options(clips, train__total_iter=1, datasets__val=None))
    monkeypatch.setattr(trainer, "autocast_type", lambda amp, device: torch.float16)
    options = small_options(clips, train__total_iter=2, datasets__val=None)
    assert train(options, "--auto_resume", "--resume_mode", "new_schedule") == 0


@pytest.mark.usefixtures("global_switches")
@pytest.mark.parametrize("switch", ["channels_last", "deterministic"])
def test_switches_that_change_only_rounding(tmp_path, clips, train, switch):
    plain = final_weights(tmp_path, train, clips, "plain")
    other = final_weights(tmp_path, train, clips, "other", **{f"train__{switch}": True})
    assert torch.are_deterministic_algorithms_enabled() == (switch == "deterministic")
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == (switch == "deterministic")
    for name, value in plain["params"].items():
        torch.testing.assert_close(other["params"][name], value, rtol=1e-3, atol=2e-5)


@pytest.mark.usefixtures("global_switches")
def test_tf32_is_switched_where_it_is_given(clips, train):
    for tf32 in (True, False, None):  # the last keeps what was set
        train(small_options(clips, name=f"tf32_{tf32}", train__total_iter=1, datasets__val=None, train__tf32=tf32))
        on_gpu = [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]
        assert on_gpu == ["tf32" if tf32 else "ieee"] * 2
        assert torch.backends.mkldnn.matmul.fp32_precision == "none", "CPUs are not asked"


def precisions_within(setting, tmp_path):
    """Returns the precisions in validations, in a program of its own that begins with ``setting``."""
    text = f"""
import torch
{setting}
from vsr.engine.precision import allow_tf32, full_float32
gpu, cpu = torch.backends.cudnn, torch.backends.mkldnn
operators = [torch.backends.cuda.matmul, gpu.conv, gpu.rnn, cpu.conv, cpu.matmul]
for allowed in (None, True, False):
    if allowed is not None:
        allow_tf32(allowed)
    before = [operator.fp32_precision for operator in operators]
    with full_float32():
        print(*(operator.fp32_precision for operator in operators))
    assert [operator.fp32_precision for operator in operators] == before
    assert allowed is None or before[:3] == ["tf32" if allowed else "ieee"] * 3
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", text], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "setting",
    ["torch.backends.fp32_precision = 'tf32'", "torch.set_float32_matmul_precision('medium')"],
)
def test_full_float32_holds_whatever_a_program_has_set_before(setting, tmp_path):
    assert precisions_within(setting, tmp_path) == {"ieee"}


def test_fused_adam_is_adam(tmp_path, clips, train):
    plain = final_weights(tmp_path, train, clips, "plain")
    adam = {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99], "fused": True}
    fused = final_weights(tmp_path, train, clips, "fused", train__optim_g=adam)
    for name, value in plain["params"].items():
        torch.testing.assert_close(fused["params"][name], value, rtol=1e-3, atol=2e-5)


def test_bf16_trains_nearly_as_32_bits(tmp_path, clips, train):
    train(small_options(clips, name="plain", train__total_iter=3))
    train(small_options(clips, name="bf16", train__total_iter=3, train__amp="bf16"))
    for plain, half in zip(rows(tmp_path, "plain")[1:], rows(tmp_path, "bf16")[1:], strict=True):
        assert float(half[2]) == pytest.approx(float(plain[2]), rel=0.02)
    assert not torch.equal(weights(tmp_path, "plain", 3)["params"]["conv_last.bias"],
                           weights(tmp_path, "bf16", 3)["params"]["conv_last.bias"])  # fmt: skip


def test_fp16_scales_the_loss_skips_what_overflows_and_resumes_exactly(tmp_path, clips, train, monkeypatch):
    """On a CPU, which can be made to compute in fp16, though users are told not to."""
    monkeypatch.setattr(trainer, "autocast_type", lambda amp, device: torch.float16)
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**22, growth_interval=5)
    monkeypatch.setattr(players, "GradScaler", scaler)
    common = {"train__total_iter": 14, "train__max_bad_steps": 2, "logger__save_checkpoint_freq": 7}
    train(small_options(clips, name="whole", **common))
    state = torch.load("experiments/whole/training_states/14.state", weights_only=True)
    assert "iteration 3 skipped: loss" in log_of(tmp_path, "whole"), "it takes more than max_bad_steps to find a scale"
    assert state["players"]["g"]["scaler"]["scale"] <= 2.0**20
    losses = [float(row[2]) for row in rows(tmp_path, "whole") if row[1] == "train/loss"]
    assert math.isnan(losses[0]) and losses[-1] < 0.1, "no loss is not a loss of 0"
    copy_until(tmp_path, "whole", "halves", 7)
    train(small_options(clips, name="halves", **common), "--auto_resume")
    assert_same_weights(weights(tmp_path, "whole", 14), weights(tmp_path, "halves", 14))
    assert rows(tmp_path, "whole") == rows(tmp_path, "halves")


def test_clipped_gradients_make_smaller_steps(tmp_path, clips, train):
    """Adam divides by the gradient's size, but not below eps: gradients clipped to 1e-9 hardly move anything."""
    train(small_options(clips, train__total_iter=1, train__clip_grad_norm=1e-12, train__ema_decay=0))
    train(small_options(clips, name="free", train__total_iter=1, train__ema_decay=0))
    clipped, free = (weights(tmp_path, name, 1)["params"]["conv_last.weight"] for name in ("small", "free"))
    assert (clipped - free).abs().max() > 5e-4


def test_a_compiled_network_computes_the_same(tmp_path, clips, train, monkeypatch):
    """Traced forward and backward, but not translated to C++, which needs minutes and a compiler."""
    plain = final_weights(tmp_path, train, clips, "plain")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    compiled = final_weights(tmp_path, train, clips, "compiled", train__compile=True)
    for name, value in plain["params"].items():
        torch.testing.assert_close(compiled["params"][name], value, rtol=1e-3, atol=2e-5)


def test_a_compiled_network_is_thawed_too(tmp_path, clips, train, monkeypatch):
    """What was compiled while most of the network was frozen computes no gradients of it."""
    plain = final_weights(tmp_path, train, clips, "plain", train__tsa_iter=2)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled = final_weights(tmp_path, train, clips, "compiled", train__tsa_iter=2, train__compile=True)
    for name, value in plain["params"].items():
        torch.testing.assert_close(compiled["params"][name], value, rtol=1e-3, atol=2e-5)


# loggers and data -----------------------------------------------------------------------------------------------------


def test_wandb_needs_the_curves_of_tensorboard(clips, train):
    with pytest.raises(UserError, match=r"set logger\.use_tb_logger to true"):
        train(small_options(clips, logger__wandb={"project": "p"}))


def test_cached_frames_are_read_for_the_first_validation_only(clips, train, monkeypatch):
    """Also where workers were asked for, which would take what they keep with them."""
    read, frames = FolderStore.read, []

    def count(store, key, crop=None):
        frames.extend([(store.root, key)] * (crop is None))
        return read(store, key, crop)

    monkeypatch.setattr(FolderStore, "read", count)
    validation = {"datasets__val__cache_data": True, "datasets__val__num_worker_per_gpu": 2, "val__val_freq": 1}
    train(small_options(clips, train__total_iter=3, **validation))
    read_twice = {frame for frame in frames if frames.count(frame) > 1}
    assert frames and len(read_twice) <= 2  # the pair that was compared with bicubic before training


def test_steps_after_a_validation_are_in_training_mode(tmp_path, clips, train):
    """Also where weights are not averaged, so that the network itself is validated."""
    train(small_options(clips, train__total_iter=3, val__val_freq=1, train__ema_decay=0, **BATCH_NORM))
    assert weights(tmp_path, "small", 3)["params"]["head.norm.num_batches_tracked"] == 3


# gradients ------------------------------------------------------------------------------------------------------------


def test_parameters_without_gradient_are_named_once(tmp_path, clips, train):
    changes = {"datasets__val": None, "imports": ["tiny_networks"], "train__total_iter": 3}
    train(small_options(clips, network_g={"type": "WithUnused", "scale": 4}, **changes))
    text = "WithUnused: unused.weight and 1 more got no gradient in the first step"
    assert log_of(tmp_path, "small").count(text) == 1
