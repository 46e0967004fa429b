"""One step of a training: the parameters and the rates of its iteration, the gradients, the update."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch
from torch import Tensor

from vsr.data.stream.loader import Batch, to_device
from vsr.engine import guards
from vsr.engine.guards import Answer
from vsr.engine.optim.rules import phase_of
from vsr.engine.optim.schedules import learning_rate
from vsr.engine.players import Turn, check_scalars
from vsr.engine.precision import is_faster_channels_last
from vsr.engine.saving import checkpoints
from vsr.engine.trainer import Trainer
from vsr.utils import rng
from vsr.utils.buffers import remember
from vsr.utils.distributed import Place, any_rank, over_ranks
from vsr.utils.errors import UserError
from vsr.utils.log import logger
from vsr.utils.signals import StopSignals

SMALLEST_SCALE = 2.0**-16  # of a loss in fp16: even sums over many pixels need no smaller one


def enter_phase(trainer: Trainer, batch: Batch) -> None:
    """Freezes and unfreezes parameters where the phase changes, then distributes and compiles the models anew."""
    iteration, place, rules = trainer.progress.iteration, trainer.run.place, trainer.rules()
    players, phase = trainer.players, phase_of(rules, iteration)
    if phase == trainer.phase:
        return
    is_first, trainer.phase = trainer.phase is None, phase
    count = sum(player.freeze(rules if name == "g" else [], iteration) for name, player in players.items())
    if count == 0:
        raise UserError(f"iteration {iteration}: every parameter is frozen; there is nothing to train")
    total = sum(p.numel() for player in players.values() for p in player.network.parameters())
    if count < total or not is_first:
        logger.info("from iteration %d on, %s parameters are trained", iteration, f"{count:,}")
    if trainer.channels_last is None:
        faster, times = is_faster_channels_last(lambda: try_step(trainer, batch), trainer.set_layout, place)
        trainer.set_layout(faster)
        logger.info("train.channels_last: auto is %s: %s", "on" if faster else "off", times)
    if place.world_size > 1:
        has_unused = try_step(trainer, batch)
        for name, player in players.items():
            player.distribute(any_rank(has_unused[name], place))
        try_step(trainer, batch)  # DDP orders its buckets, and sums, by its first step: none that counts be that
    if trainer.train.compile:
        logger.info("compiling: the first steps take minutes")
        torch.compiler.reset()  # else code of the phase before, with its gradients, is used again
        for player in players.values():
            player.model = torch.compile(player.model)


def try_step(trainer: Trainer, batch: Batch) -> dict[str, bool]:
    """Makes a step that changes nothing; returns whether it left a player's trained parameters without gradient."""
    undo = undoing(trainer)
    backward(trainer, [batch])
    unused = {
        name: any(p.requires_grad and p.grad is None for p in player.parameters)
        for name, player in trainer.players.items()
    }
    undo()
    return unused


def undoing(trainer: Trainer) -> Callable[[], None]:
    """Returns a function that undoes a step without an update: gradients, buffers and RNG state."""
    device, players = trainer.run.place.device, trainer.players
    random_state = rng.get_state(device)
    restore_buffers = remember([buffer for player in players.values() for buffer in player.buffers])

    def undo() -> None:
        rng.set_state(random_state, device)
        restore_buffers()
        for player in players.values():
            player.optimizer.zero_grad(set_to_none=True)

    return undo


def set_learning_rate(trainer: Trainer) -> None:
    """Sets every group's rate for this iteration."""
    iteration, train = trainer.progress.iteration - 1, trainer.train
    for player in trainer.players.values():
        for group, rate in zip(player.optimizer.param_groups, player.base_rates, strict=True):
            group["lr"] = learning_rate(iteration, rate, train.scheduler, train.warmup_iter)


def make_step(trainer: Trainer, batches: list[Batch], stop: StopSignals) -> tuple[Tensor, Batch, Answer, bool]:
    """Makes one optimiser step of every player; skips it where a loss, gradient or offset is out of range.

    Returns:
        The network's output for the last batch; that batch on its device; the offset guard's answer; and whether some
        rank was asked to stop.
    """
    progress, players = trainer.progress, trainer.players
    trainer.guard.watch(progress.iteration)
    undo = undoing(trainer)

    def go_back() -> None:
        undo()
        progress.samples -= trainer.run.stage_of(progress.iteration).effective_batch
        progress.iteration -= 1

    with trainer.saved_on_mistake(go_back):  # parameters, averages and moments have not changed yet
        losses, output, batch = backward(trainer, batches)
    norms = {name: player.gradient_norm() for name, player in players.items()}
    loss, norm = losses[""], torch.stack(list(norms.values())).sum()
    is_bad, loss_is_bad, stopped = flags_of_ranks(~torch.stack([loss + norm, loss]).isfinite(), stop, trainer.run.place)
    answer = trainer.guard.answer(progress.iteration)
    if is_bad:
        count_bad_step(trainer, batches, float(loss), float(norm), loss_is_bad)
    if is_bad or answer != "ok":
        undo()
    else:
        for name, player in players.items():
            player.update(norms[name], trainer.train.clip_grad_norm)
        progress.losses = {name: progress.losses.get(name, 0) + value for name, value in losses.items()}
        progress.loss_steps += 1
        progress.bad_steps = 0
    for player in players.values():
        player.scaler.update()
    return output, batch, answer, stopped


def flags_of_ranks(flags: Tensor, stop: StopSignals, place: Place) -> list[bool]:
    """Returns flags, and whether to stop, as true where some rank's are; the step's one wait and one collective."""
    if place.world_size > 1:
        flags = torch.cat([flags, flags.new_tensor([bool(stop)])])
        return over_ranks(flags.int(), place, "max").bool().tolist()
    return [*flags.tolist(), bool(stop)]


def backward(trainer: Trainer, batches: list[Batch]) -> tuple[dict[str, Tensor], Tensor, Batch]:
    """Accumulates the gradients of a step.

    Returns:
        Its losses by name, float64, "" being their sum; the network's output for the last batch; and that batch.
    """
    place, players, accumulate = trainer.run.place, trainer.players, trainer.train.accumulate
    for player in players.values():
        if not player.network.training:  # after a validation; train() visits every module
            player.model.train()
        player.optimizer.zero_grad(set_to_none=True)
    losses = {"": torch.zeros((), dtype=torch.float64, device=place.device)}
    output = torch.zeros(())
    for number, batch in enumerate(batches, start=1):
        batch = seen_by_losses(trainer, batch)
        with ExitStack() as stack:
            if number < len(batches) and place.world_size > 1:
                for player in players.values():
                    stack.enter_context(player.model.no_sync())
            for turn in turns(trainer, batch):
                # DDP takes means of gradients over the processes
                factors = {name: place.world_size if name in trainer.sums else 1 / accumulate for name in turn.losses}
                parts = {name: value * factors[name] for name, value in turn.losses.items()}
                loss = sum(parts.values())
                assert isinstance(loss, Tensor), "a turn has losses"
                player = players[turn.player]
                trained = None if len(players) == 1 else [p for p in player.parameters if p.requires_grad]
                player.scaler.scale(loss).backward(inputs=trained)
                for name, part in {"": loss, **parts}.items():
                    losses[name] = losses.get(name, 0) + part.detach().double()
                output = output if turn.output is None else turn.output.detach()
    return losses, output, batch


def seen_by_losses(trainer: Trainer, batch: Batch) -> Batch:
    """Returns a batch on its device, prepared; ``gt`` is the middle frame where the network restores one frame."""
    batch = to_device(batch, trainer.run.place.device)
    batch = trainer.prepare(batch, batch["keys"])
    if trainer.players["g"].network.spec.reads == "clip":  # type: ignore[union-attr]  # a Spec
        return batch
    clips = {key: batch[key] for key in ("gt", "gt_original") if key in batch and batch[key].ndim == 5}
    return {**batch, **{key: clip[:, clip.shape[1] // 2] for key, clip in clips.items()}}  # of (b, k, 3, H, W)


def turns(trainer: Trainer, batch: Batch) -> Iterator[Turn]:
    """Yields the turns of a batch, computed under autocast; the backward passes between them run without it."""
    dtype, losses = trainer.autocast_type, iter(trainer.losses(batch))
    while True:
        with torch.autocast(trainer.run.place.device.type, dtype, enabled=dtype is not None):
            turn = next(losses, None)
        if turn is None:
            return
        check_scalars(turn)
        yield turn


def count_bad_step(trainer: Trainer, batches: list[Batch], loss: float, norm: float, loss_is_bad: bool) -> None:
    """Warns of a step whose loss or gradient norm is not finite; too many in a row end the training."""
    progress, run, players = trainer.progress, trainer.run, trainer.players
    progress.bad_steps += 1
    keys = ", ".join(str(key) for batch in batches for key in batch.get("key", []))
    text = "iteration %d skipped: loss %g, gradient norm %g on %s (%d in a row)"
    logger.warning(text, progress.iteration, loss, norm, keys, progress.bad_steps)
    # fp16's scaler halves a scale that is too high after each such step
    scales = [player.scaler.get_scale() for player in players.values() if trainer.scales_loss]
    is_scaling = not loss_is_bad and any(scale > SMALLEST_SCALE for scale in scales)
    if progress.bad_steps >= trainer.train.max_bad_steps and not is_scaling:
        file = run.folder / f"bad_batch_{progress.iteration}_rank{run.place.rank}.pth"
        checkpoints.save(file, {"batches": batches, "network": players["g"].network.state_dict()})
        raise UserError(guards.DIVERGED.format(steps=progress.bad_steps, file=file))
