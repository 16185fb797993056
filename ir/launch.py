"""How the programs of a kernel are launched on a GPU: what its plan says besides tiles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """Properties of a launch; none of them changes a value.

    ``warps`` of a program (0: chosen by the back end) and ``stages`` of its pipelines. ``persistent``: launch at most so many programs for every processor,
    each of which does the work of several in turn (0: one for every tile); legal for every kernel, for programs share nothing. ``descriptors``: tiles that are
    boxes of their tensor are copied whole through tensor descriptors (by the tensor memory accelerator from sm_90 on).
    """

    warps: int = 0
    stages: int = 2
    persistent: int = 0
    descriptors: bool = False

    def __str__(self) -> str:
        parts = [f"warps {self.warps} stages {self.stages}"] if (self.warps, self.stages) != (0, 2) else []
        parts += [f"persistent {self.persistent}"] if self.persistent else []
        parts += ["copies descriptors"] if self.descriptors else []
        return "  ".join(parts)

    @property
    def of_gpu(self) -> bool:
        """Whether only a GPU has what is asked for (warps and stages, which the planner sets, mean nothing on a CPU)."""
        return bool(self.persistent or self.descriptors)
