"""What a training resumes from: all that its next step depends on, as tensors and plain values."""

from typing import TYPE_CHECKING, Any

from vsr.engine.saving import checkpoints
from vsr.engine.saving.resume import same_validation
from vsr.utils import random_state
from vsr.utils.errors import UserError

if TYPE_CHECKING:
    from vsr.engine.trainer import Trainer


def state_of(trainer: "Trainer") -> dict[str, Any]:
    """Returns all that training resumes from: tensors and plain values."""
    return {
        "format": checkpoints.STATE_FORMAT,
        "iteration": trainer.iteration,
        "samples": trainer.samples,
        "effective_batch": trainer.run.effective_batch,
        "training_set": trainer.run.training_set,
        "last_validation": trainer.last_validation,
        "best": dict(trainer.best),
        "loaded": sorted(trainer.loaded),
        "bad_steps": trainer.bad_steps,
        "well_until": trainer.well_until,
        "base_rates": list(trainer.base_rates),
        "loss_sum": trainer.loss_sum,
        "loss_steps": trainer.loss_steps,
        "network": trainer.network.state_dict(),
        "ema": trainer.ema.state_dict() if trainer.ema is not None else None,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "random": random_state.get_state(trainer.run.place.device),
        "settings": trainer.run.settings,
    }


def load_state(trainer: "Trainer", state: dict[str, Any], keep_rates: bool = True) -> None:
    """Makes a trainer take over what ``state_of`` returned.

    Args:
        trainer: of the same network and optimiser.
        state: read from a file, or of the same training.
        keep_rates: the state's learning rates count, not those of the options.

    Raises:
        UserError: the state is another network's, or no state.
    """
    options = [{**group} for group in trainer.optimizer.param_groups]
    try:
        trainer.network.load_state_dict(state["network"])
        if trainer.ema is not None:
            trainer.ema.load_state_dict(state["ema"] or state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where the state was made without amp: fp16
            trainer.scaler.load_state_dict(state["scaler"])
        random_state.set_state(state["random"], trainer.run.place.device)
        trainer.iteration, trainer.samples = state["iteration"], state["samples"]
        trainer.last_validation = state["last_validation"]
        trainer.best = dict(state["best"]) if same_validation(state["settings"], trainer.run.settings) else {}
        trainer.loaded = set(state["loaded"])
        trainer.bad_steps, trainer.well_until = state["bad_steps"], state["well_until"]
        trainer.loss_sum, trainer.loss_steps = state["loss_sum"].to(trainer.run.place.device), state["loss_steps"]
        if keep_rates:
            trainer.base_rates = list(state["base_rates"])
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the training state does not fit this network and optimiser: {reason}") from None
    if not keep_rates:  # the new schedule's options replace those the state brought along
        for group, own in zip(trainer.optimizer.param_groups, options, strict=True):
            group.update({key: value for key, value in own.items() if key != "params"})
