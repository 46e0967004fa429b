"""A GAN: two players, each with its optimiser, losses and files; RealBasicVSR's second stage among them."""

import copy
import signal

import pytest
import torch
import torch.nn.functional as F
import yaml
from gan_cases import ADAM, flat_weights, gan_options, real_options
from options_files import mistakes
from safetensors import safe_open
from safetensors.torch import load_file
from torch.optim.adam import Adam
from training import (
    assert_same_weights,
    changed,
    copy_until,
    log_of,
    rows,
    small_options,
    start,
    stop_at,
    write_options,
)

from vsr import config
from vsr.archs.discriminator import UNetDiscriminatorWithSpectralNorm, VGGStyleDiscriminator
from vsr.engine.run import Run
from vsr.engine.step import backward, enter_phase, make_step, set_learning_rate
from vsr.losses import PerceptualLoss
from vsr.utils.distributed import take_place
from vsr.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("in_tmp_path")
STEPS = 3


def saved(folder, name, player, iteration):
    return torch.load(folder / f"experiments/{name}/models/net_{player}_{iteration}.pth", weights_only=True)


def test_a_killed_gan_resumes_exactly(tmp_path, clips, train):
    """Both networks, their moments, and the discriminator's BatchNorm's means."""
    common = {"train__accumulate": 2, "logger__save_checkpoint_freq": 2, "val__val_freq": 3}
    train(gan_options(clips, name="whole", **common))
    process = start(tmp_path, write_options(tmp_path, gan_options(clips, name="killed", **common)))
    code, text = stop_at(process, "iter 4/6", signal.SIGKILL)
    assert code == -signal.SIGKILL, text
    train(gan_options(clips, name="killed", **common), "--auto_resume")
    for player in ("g", "d"):
        assert_same_weights(saved(tmp_path, "whole", player, 6), saved(tmp_path, "killed", player, 6))
    assert rows(tmp_path, "whole") == rows(tmp_path, "killed")


def test_realbasicvsr_with_all_its_losses_resumes_exactly(tmp_path, clips, train):
    """The generator's average, and the vectors of the discriminator's spectral norms, are part of the state."""
    common = {"train__total_iter": 4, "logger__save_checkpoint_freq": 1, "train__amp": "bf16"}
    train(real_options(clips, tmp_path, name="whole", **common))
    copy_until(tmp_path, "whole", "halves", 2)
    train(real_options(clips, tmp_path, name="halves", **common), "--auto_resume")
    assert "resumed from experiments/halves/training_states/2.state" in log_of(tmp_path, "halves")
    whole, first = (saved(tmp_path, "whole", "g", iteration) for iteration in (4, 1))
    assert whole.keys() == {"params", "params_ema"}
    for player in ("g", "d"):
        assert_same_weights(saved(tmp_path, "whole", player, 4), saved(tmp_path, "halves", player, 4))
    assert any(name.endswith("weight_u") for name in saved(tmp_path, "whole", "d", 4)["params"])
    flow = [name for name in first["params"] if "spynet" in name]
    assert all(torch.equal(first["params"][name], whole["params"][name]) for name in flow), "it is never trained"
    named = {name for _, name, _ in rows(tmp_path, "whole")}
    assert named >= {f"train/loss/{loss}" for loss in ("pixel", "perceptual", "cleaning", "gan", "real", "fake")}


def made_batch(number):
    """Returns a batch of two clips; the unsharpened truth is another."""
    generator = torch.Generator().manual_seed(number)
    shapes = {"lq": (2, 2, 3, 8, 8), "gt": (2, 2, 3, 32, 32), "gt_original": (2, 2, 3, 32, 32)}
    batch = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return {**batch, "keys": torch.zeros(2, 3, dtype=torch.int64)}


def make_gan(tmp_path, options):
    """Returns the trainer of options, in whose batches there is no need of a data set."""
    with take_place(num_gpu=0) as place:
        run = Run(
            place=place,
            folder=tmp_path,
            logger=options.logger,
            val_freq=None,
            batches=lambda start: (),
            effective_batch=2,
            training_set="",
            validate=None,
            settings={},
            loaded=[],
        )
        torch.manual_seed(5)
        return options.trainer(options.network_g(), run, train=options.train)


def steps_of(trainer, first=1):
    for number in range(first, first + STEPS):
        trainer.progress.iteration = number
        batch = made_batch(number)
        enter_phase(trainer, batch)
        set_learning_rate(trainer)
        make_step(trainer, [batch], [])


def test_steps_equal_a_plain_loop(tmp_path, clips):
    """The generator's step comes first; real is what was not sharpened; the discriminator has one step of both."""
    tree = real_options(clips, tmp_path, train__scheduler=None, train__ema_decay=0.9)
    options = config.load(write_options(tmp_path, tree))
    trainer = make_gan(tmp_path, options)
    g, d = (copy.deepcopy(trainer.players[name].network).train() for name in ("g", "d"))
    average, perceptual = flat_weights(g), PerceptualLoss({"2": 0.1, "5": 1}, str(tmp_path / "vgg19.pth"))
    steps_of(trainer)
    trained = [parameter for parameter in g.parameters() if parameter.requires_grad]
    adam_g, adam_d = Adam(trained, 1e-3, (0.9, 0.99)), Adam(d.parameters(), 1e-3)
    for number in range(1, STEPS + 1):
        batch = made_batch(number)
        gt, real = batch["gt"].flatten(0, 1), batch["gt_original"].flatten(0, 1)
        sr, cleaned = (x.flatten(0, 1) for x in g(batch["lq"], return_lqs=True))
        d.requires_grad_(False)
        loss = (sr - gt).abs().mean() + (cleaned - F.avg_pool2d(gt, 4)).abs().mean()
        loss = loss + perceptual(sr, gt) + 0.1 * F.softplus(-d(sr)).mean()
        adam_g.zero_grad()
        loss.backward()
        d.requires_grad_(True)
        adam_d.zero_grad()
        F.softplus(-d(real)).mean().backward()
        F.softplus(d(sr.detach())).mean().backward()
        adam_g.step()
        adam_d.step()
        average = 0.9 * average + 0.1 * flat_weights(g)
    torch.testing.assert_close(flat_weights(trainer.players["g"].network), flat_weights(g), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat_weights(trainer.players["d"].network), flat_weights(d), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat_weights(trainer.players["g"].evaluated), average, rtol=1e-4, atol=1e-6)


def test_the_generators_losses_do_not_train_the_discriminator(tmp_path, clips):
    tree = gan_options(clips, train__gan_opt={"type": "GANLoss", "loss_weight": 100.0})
    trainer = make_gan(tmp_path, config.load(write_options(tmp_path, tree)))
    trainer.progress.iteration, batch = 1, made_batch(1)
    enter_phase(trainer, batch)
    batch = {**batch, "lq": torch.rand(2, 3, 3, 8, 8), "gt": torch.rand(2, 3, 32, 32)}
    batch.pop("gt_original")
    turns = trainer.losses(batch)
    judge, seen = trainer.players["d"].network, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "losses", lambda given: (seen.append(of_judge()) or turn for turn in turns))

        def of_judge():
            return [parameter.grad is None for parameter in judge.parameters()]

        backward(trainer, [batch])
    assert all(seen[1]), "after the generator's backward pass"
    assert not any(seen[2]), "after the discriminator's first"


def test_the_discriminator_can_have_more_steps(tmp_path, clips, train):
    """net_d_init_iters of its own, then net_d_iters for each of the generator."""
    saves = {"train__total_iter": 6, "logger__save_checkpoint_freq": 1, "datasets__val": None}
    train(gan_options(clips, train__net_d_init_iters=2, train__net_d_iters=2, **saves))
    for player, changes in (("g", [4, 6]), ("d", [2, 3, 4, 5, 6])):
        states = [saved(tmp_path, "small", player, iteration)["params"] for iteration in range(1, 7)]
        names = [name for name in states[0] if name.endswith("weight") and states[0][name].ndim == 4]
        changed_in = [i + 2 for i in range(5) if not torch.equal(states[i][names[0]], states[i + 1][names[0]])]
        assert changed_in == changes, player
    text = mistake_of(tmp_path, gan_options(clips, name="fp16", train__net_d_iters=2), train, "fp16")
    assert text.startswith("train.net_d_iters above 1 and train.net_d_init_iters above 0 need a single process, and no")


def test_more_steps_of_the_discriminator_need_a_single_process(tmp_path, clips):
    tree = gan_options(clips, train__net_d_init_iters=2)
    trainer = make_gan(tmp_path, config.load(write_options(tmp_path, tree)))
    trainer.check_start()
    trainer.run = trainer.run._replace(place=trainer.run.place._replace(world_size=2))
    with pytest.raises(UserError, match=r"train\.net_d_init_iters above 0 need a single process"):
        trainer.check_start()


def mistake_of(tmp_path, tree, train, amp=None):
    with pytest.MonkeyPatch.context() as patch:
        if amp == "fp16":  # which a CPU does not train in
            patch.setattr("vsr.engine.trainer.autocast_type", lambda amp, device: torch.float16)
        with pytest.raises(UserError) as caught:
            train(tree)
    return str(caught.value)


def test_every_named_loss_is_logged(tmp_path, clips, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(gan_options(clips, train__total_iter=1, datasets__val=None, logger__use_tb_logger=True))
    board = EventAccumulator(str(tmp_path / "experiments/small/tb_logger"))
    board.Reload()
    shown = {name: board.Scalars(f"train/loss/{name}")[0].value for name in ("pixel", "gan", "real", "fake")}
    assert board.Scalars("train/loss")[0].value == pytest.approx(sum(shown.values()), rel=1e-5)
    assert f"pixel {shown['pixel']:.4g}, gan {shown['gan']:.4g}" in log_of(tmp_path)


def test_old_weights_of_all_players_are_deleted_together(tmp_path, clips, train):
    train(gan_options(clips, train__total_iter=3, logger__save_checkpoint_freq=1, logger__keep_weights=1))
    files = {file.name for file in (tmp_path / "experiments/small/models").iterdir()}
    assert files == {f"net_{player}_3.{kind}" for player in "gd" for kind in ("pth", "safetensors")}
    weights = load_file(tmp_path / "experiments/small/models/net_g_3.safetensors")
    assert_same_weights({"params_ema": weights}, {"params_ema": saved(tmp_path, "small", "g", 3)["params_ema"]})
    with safe_open(tmp_path / "experiments/small/models/net_g_3.safetensors", "pt") as file:
        about = file.metadata()
    assert about["vsr.iteration"] == "3" and about["vsr.scale"] == "4"
    assert '"type": "EDVR"' in about["vsr.network"]


@pytest.mark.parametrize("layout", ["mmagic", "BasicSR"])
def test_a_discriminator_starts_from_published_weights(tmp_path, clips, layout):
    torch.manual_seed(11)
    source = UNetDiscriminatorWithSpectralNorm(mid_channels=4)
    if layout == "mmagic":  # the file of a RealBasicVSR, of which the generator is left out
        content = {f"discriminator.{name}": value for name, value in source.state_dict().items()}
        content |= {"generator.conv.weight": torch.ones(1), "step_counter": torch.zeros(1)}
        torch.save({"meta": {}, "state_dict": content}, tmp_path / "real.pth")
    else:
        torch.save({"params": source.state_dict()}, tmp_path / "real.pth")
    tree = real_options(clips, tmp_path, path__pretrain_network_d=str(tmp_path / "real.pth"))
    options = config.load(write_options(tmp_path, tree))
    trainer = make_gan(tmp_path, options)
    trainer.check_start()
    assert torch.equal(flat_weights(trainer.players["d"].network), flat_weights(source))
    assert trainer.progress.weight_files["network_d"].startswith(f"{tmp_path}/real.pth sha256:")
    for parameter in trainer.players["d"].network.parameters():
        parameter.data.zero_()
    trainer.progress.iteration = 1  # a resumed one has its own
    trainer.check_start()
    assert not flat_weights(trainer.players["d"].network).any()


def test_weights_of_another_discriminator_are_refused(tmp_path, clips, train):
    torch.save({"params": VGGStyleDiscriminator(num_feat=4, input_size=32).state_dict()}, tmp_path / "vgg_d.pth")
    tree = real_options(clips, tmp_path, path__pretrain_network_d=str(tmp_path / "vgg_d.pth"))
    text = mistake_of(tmp_path, tree, train)
    assert f"{tmp_path}/vgg_d.pth matches nothing in UNetDiscriminatorWithSpectralNorm" in text
    tree = gan_options(clips, name="wider", path__pretrain_network_d=str(tmp_path / "vgg_d.pth"))
    tree["network_d"]["num_feat"] = 8
    text = mistake_of(tmp_path, tree, train)
    assert "Check network_d (path.strict_load_d: false starts a training with the weights that fit)" in text


UNET = {"type": "UNetDiscriminatorWithSpectralNorm"}
GAN_KEYS = "needs `trainer: GANTrainer`, network_d, train.optim_d and train.gan_opt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_d": "del"}, "network_d: missing"),
        ({"network_d": None}, "network_d: expected a mapping with `type:`, got nothing (null)"),
        (
            {"network_d": {"type": "EDVR"}},
            "network_d.type: unknown discriminator 'EDVR'; known: UNetDiscriminatorWithSp",
        ),
        ({"network_d": {**UNET, "mid_channels": 0}}, "network_d.mid_channels: expected a whole number of at least 1"),
        (
            {"network_d": {"type": "VGGStyleDiscriminator", "input_size": 100}},
            "network_d: input_size: 100 is not 8, 16, 32",
        ),
        ({"train__gan_opt": "del"}, "train.gan_opt: missing"),
        ({"train__optim_d": "del"}, "train.optim_d: missing"),
        (
            {"train__gan_opt": {"type": "GANLoss", "gan_type": "wasserstein"}},
            "train.gan_opt.gan_type: expected 'vanilla'",
        ),
        ({"trainer": None}, f"network_d: unknown key: training against a discriminator {GAN_KEYS}"),
        ({"trainer": None}, f"train.gan_opt: unknown key: training against a discriminator {GAN_KEYS}"),
        (
            {"trainer": None, "path": {"pretrain_network_d": "d.pth"}},
            f"path.pretrain_network_d: unknown key: training against a discriminator {GAN_KEYS}",
        ),
        (
            {"train__cleaning_opt": {"type": "L1Loss"}},
            "train.cleaning_opt: EDVR does not clean its input: leave it out",
        ),
        (
            {"train__perceptual_opt": {"type": "PerceptualLoss", "weights": "nowhere/vgg19.pth"}},
            "train.perceptual_opt: weights 'nowhere/vgg19.pth' does not exist: download torchvision's VGG-19, https://",
        ),
        (
            {"train__perceptual_opt": {"type": "PerceptualLoss", "layer_weights": {"conv9_9": 1}}},
            "train.perceptual_opt: layer_weights has no layer 'conv9_9'",
        ),
        (
            {"train__perceptual_opt": {"type": "PerceptualLoss", "style_weight": 1}},
            "train.perceptual_opt.style_weight: unknown key: a style loss is not built in",
        ),
    ],
)
def test_a_mistake_is_one_message_with_its_key(tmp_path, clips, changes, message):
    tree = changed(gan_options(clips), {key: value for key, value in changes.items() if value != "del"})
    for key in (key for key, value in changes.items() if value == "del"):
        *sections, last = key.split("__")
        del (tree[sections[0]] if sections else tree)[last]
    assert f"  {message}" in mistakes(tmp_path, tree)


def test_files_that_only_training_reads_are_notes_otherwise(tmp_path, clips):
    vgg = {"type": "PerceptualLoss", "weights": "nowhere/vgg19.pth"}
    tree = gan_options(clips, train__perceptual_opt=vgg, path__pretrain_network_d="nowhere/d.pth")
    absent = config.load(write_options(tmp_path, tree), missing_data="note").absent
    assert any(note.startswith("train.perceptual_opt: weights 'nowhere/vgg19.pth' does not exist") for note in absent)
    config.load(write_options(tmp_path, tree), need="test")
    del tree["train"]["perceptual_opt"]
    notes = config.load(write_options(tmp_path, tree)).notes
    assert "path.pretrain_network_d: nowhere/d.pth does not exist" in notes


def test_crops_that_a_discriminator_cannot_judge_are_named(tmp_path, clips, train):
    tree = gan_options(clips, network_d={"type": "VGGStyleDiscriminator", "num_feat": 4, "input_size": 64})
    text = (
        "network_d: VGGStyleDiscriminator judges images of 64 × 64 (input_size), got 32 × 32: check datasets.train.gt"
    )
    assert mistake_of(tmp_path, tree, train).startswith(text)
    tree = real_options(clips, tmp_path, name="unet", datasets__train__gt_size=36)
    assert "judges images whose sides are multiples of 8, got 36 × 36" in mistake_of(tmp_path, tree, train)


def test_a_file_of_basicsrs_videorecurrentganmodel_is_read(tmp_path, clips):
    """BasicSR's keys and numbers; the flow network has a rate of its own."""
    losses = {
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1e-2, "reduction": "mean"},
        "perceptual_opt": {
            "type": "PerceptualLoss",
            "layer_weights": {"conv5_4": 1},
            "vgg_type": "vgg19",
            "use_input_norm": True,
            "range_norm": False,
            "perceptual_weight": 1.0,
            "style_weight": 0,
            "criterion": "l1",
        },
        "gan_opt": {
            "type": "GANLoss",
            "gan_type": "vanilla",
            "real_label_val": 1.0,
            "fake_label_val": 0.0,
            "loss_weight": 5e-3,
        },
    }
    adam = {**ADAM, "lr": 1e-4, "weight_decay": 0, "betas": [0.9, 0.99]}
    train = {
        "ema_decay": 0.999,
        "optim_g": adam,
        "optim_d": adam,
        "lr_flow": 0,
        "fix_flow": 5000,
        "scheduler": {"type": "MultiStepLR", "milestones": [50000, 100000, 200000, 300000], "gamma": 0.5},
        "total_iter": 400000,
        "warmup_iter": -1,
        "net_d_iters": 1,
        "net_d_init_iters": 0,
        **losses,
    }
    stock = small_options(clips, datasets__train__type="REDSRecurrentDataset", datasets__train__gt_size=256)
    spynet = "experiments/pretrained_models/flownet/spynet_sintel_final-3d2a1287.pth"
    stock |= {
        "model_type": "VideoRecurrentGANModel",
        "network_g": {"type": "BasicVSR", "num_feat": 64, "num_block": 30, "spynet_path": spynet},
        "network_d": {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 32, "input_size": 256},
        "path": {"pretrain_network_d": None, "strict_load_d": True, "param_key_d": None, "resume_state": None},
        "train": train,
    }
    del stock["datasets"]["val"]
    stock["datasets"]["train"] |= {"dataroot_gt": "nowhere", "dataroot_flow": None, "test_mode": False}
    (tmp_path / "vrgan.yml").write_text(yaml.safe_dump(stock))
    options = config.load(tmp_path / "vrgan.yml", missing_data="note")
    assert options.trainer.__name__ == "GANTrainer"
    assert options.train is None and any("vgg19-dcbb9e9d.pth' does not exist" in text for text in options.absent)
    del stock["train"]["perceptual_opt"]
    (tmp_path / "vrgan.yml").write_text(yaml.safe_dump(stock))
    options = config.load(tmp_path / "vrgan.yml", missing_data="note")
    rules = [(rule.match, rule.lr_mul, rule.from_iter) for rule in options.train.parameters]
    assert rules == [("spynet", 0.0, None), ("spynet|edvr", None, 5000)]
