"""All cases, by name: the masks and score functions that FlexAttention's users and tests write."""

from __future__ import annotations

from tests.flex.case import Case
from tests.flex.gym_masks import GYM_MASKS
from tests.flex.learnable import LEARNABLE
from tests.flex.scores import FA4_SCORES, GYM_SCORES, TORCH_SCORES
from tests.flex.torch_masks import FA4_MASKS, TORCH_MASKS

MASKS: tuple[Case, ...] = GYM_MASKS + TORCH_MASKS + FA4_MASKS
SCORES: tuple[Case, ...] = TORCH_SCORES + GYM_SCORES + FA4_SCORES + LEARNABLE
CASES: tuple[Case, ...] = MASKS + SCORES


def case(name: str) -> Case:
    return next(c for c in CASES if c.name == name)
