"""Tensors beside pages that may not be touched: who reads or writes outside of one is killed."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from einsum_compiler import tile_lists

PAGE = mmap.PAGESIZE
NOTHING = 0xFF  # every byte that is no element: NaN as a float, -1 as a whole number
LIBRARY = ctypes.CDLL(None, use_errno=True)


def guarded(tensor: Tensor, end: bool = True) -> Tensor:
    """The tensor with its strides, its last byte (without ``end`` its first) beside a page without rights. Its pages are given back with it."""
    if not tensor.numel():
        return tensor
    tensor = tensor.detach()
    used = (1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))) * tensor.element_size()
    pages = -(-used // PAGE)
    memory = torch.frombuffer(mmap.mmap(-1, (pages + 2) * PAGE), dtype=torch.uint8).fill_(NOTHING)
    start = PAGE + (pages * PAGE - used if end else 0)
    placed = memory[start : start + used].view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
    once = tuple(slice(None) if step else slice(1) for step in tensor.stride())  # of an expanded axis
    placed[once].copy_(tensor[once])
    for page in (0, pages + 1):
        if LIBRARY.mprotect(ctypes.c_void_p(memory.data_ptr() + page * PAGE), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    return placed


@contextmanager
def guarding(end: bool = True) -> Iterator[None]:
    """What calls allocate is guarded too: outputs, what kernels hand each other, lists of tiles."""

    def of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def allocated(*arguments: Any, **keywords: Any) -> Tensor:
            found = function(*arguments, **keywords)
            return guarded(found, end) if found.device.type == "cpu" and not found.requires_grad else found

        return allocated

    listed = tile_lists.build_tile_list

    def lists(*arguments: Any, **keywords: Any) -> tuple[Tensor, ...]:
        return tuple(guarded(t, end) for t in listed(*arguments, **keywords))

    with (
        patch.object(torch, "empty", of(torch.empty)),
        patch.object(torch, "zeros", of(torch.zeros)),
        patch.object(tile_lists, "build_tile_list", lists),
    ):
        yield
