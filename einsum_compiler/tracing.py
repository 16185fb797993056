"""Whether a call may run at once, or must go through PyTorch's dispatcher because more than its values is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, int, float, bool})


def is_watched(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    """Whether something else must see a call: ``torch.compile`` and ``torch.export``, autocast, ``torch.func``, forward derivatives, a mode, a subclass of tensors.

    A call that nothing watches gives the same values without the dispatcher, whose 20 us are longer than small kernels run.
    """
    if torch.compiler.is_compiling():
        return True
    for argument in (*arguments, *keywords.values()) if keywords else arguments:
        if type(argument) not in PLAIN and isinstance(argument, torch.Tensor):
            return True
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch._C._is_any_autocast_enabled()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )
