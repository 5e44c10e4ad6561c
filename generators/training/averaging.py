"""A moving average of a network's weights, which is better than the weights of any one step.

Yazici et al. 2018 (arXiv 1806.04498) for adversarial training, where it averages out the circling
of the players; Tarvainen, Valpola 2017 (arXiv 1703.01780) for any other.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float = 0.999) -> AveragedModel:
    """A copy of ``network`` that follows it at each ``update_parameters``, buffers included.

    Args:
        network: what is trained; it stays as it is.
        decay: share of the average that stays at each update, once it is warmed up.

    Returns:
        The average; the copy is its ``module``. No gradient reaches it.
    """
    rule = partial(warmed_average, decay)
    average = AveragedModel(network, avg_fn=rule, use_buffers=True)
    return average.requires_grad_(False)


def warmed_average(decay: float, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average that forgets its start quickly: decay rises to its full value.

    Args:
        decay: its full value.
        average: of what came before.
        current: what is new, of the same shape.
        count: updates so far.

    Returns:
        The new average; where numbers are whole, as counters are, ``current``.
    """
    if not average.is_floating_point():
        return current
    n = int(count)
    return average.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))
