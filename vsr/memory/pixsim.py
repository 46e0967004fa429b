"""Single-weight synthesis: one weight per memory frame (and shift), the same at all positions."""

from torch import Tensor

from vsr.memory.addressing import by_phase
from vsr.memory.hops import SearchMemory
from vsr.ops.local_window.shifts import allowed_candidates, inside_window, masked_softmax, window_scores, window_sum
from vsr.registry import register


@register("memory", "pixsim")
class PixSim(SearchMemory):
    """Reads a memory with one weight per candidate: score τ · mean over x of ⟨u(x), k_i(x + δ)⟩ / √e.

    The mean runs over the positions x whose x + δ is inside the frame. At the border, where a shift leads outside, the
    remaining candidates' weights are scaled to sum to 1. τ is learned and starts at √(h·w): the mean of h·w unrelated
    products is that much smaller than one of them.
    """

    has_tau = True

    def search(
        self, query: Tensor, keys: Tensor, values: Tensor | None, valid: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor]:
        """Weighs whole frames; the weights are (b, t·R²), numbered (frame, row shift, column shift)."""
        assert self.tau is not None, "has_tau"
        return single_weight_search(query, keys, values, valid, self.window, self.stride, self.tau)


def single_weight_search(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None,
    valid: Tensor | None,
    window: int = 1,
    stride: int = 1,
    tau: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Weighs whole frames, shifted by each δ of the window, by ``tau`` times the mean inner product: a ``Search``.

    The window R counts positions of the keys, whose stride is ``stride``; values may be of any size if it is 1. The
    weights are (b, t·R²).
    """
    b, t = keys.shape[:2]
    values = keys if values is None else values
    # positions in the mean, (R²,)
    inside = inside_window(keys.shape[-2], keys.shape[-1], window, keys.device).flatten(1).sum(1)
    scores = window_scores(query, keys, window).flatten(2).sum(2)  # (b, t·R²)
    scores = tau * scores / inside.clamp(min=1).repeat(t)
    allowed = (inside > 0).expand(b, t, -1)
    if valid is not None:
        allowed = allowed & valid[:, :, None]
    weights = masked_softmax(scores, allowed.flatten(1))

    def read(phase: Tensor) -> tuple[Tensor, None]:
        if window == 1:
            shape = (b, t, *phase.shape[-2:])
            return window_sum(weights[..., None, None].expand(shape), phase, 1), None
        at_border = allowed_candidates(phase, window, valid)
        local = masked_softmax(scores[..., None, None].expand(-1, -1, *phase.shape[-2:]), at_border)
        return window_sum(local, phase, window), None

    return by_phase(read, values, stride)[0], weights
