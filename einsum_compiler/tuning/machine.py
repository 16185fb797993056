"""The machine and the versions that measured times belong to."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any


@cache
def processor_name() -> str:
    """The model of the CPU, as the system names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Model", "Hardware")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_of(backend: str, isa: str, compiler: str) -> dict[str, Any]:
    """What a plan was timed on: of the CPU its model, instruction set, cores and compiler; of a GPU its name and number of multiprocessors."""
    from einsum_compiler.cost.device import device_for

    processors = device_for(backend).processors
    if backend == "cpu":
        return {"device": processor_name(), "isa": isa, "compiler": compiler, "processors": processors}
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "Triton interpreter"
    return {"device": name, "processors": processors}


def versions() -> dict[str, str]:
    """The packages that decide how fast a plan is."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for package in ("einsum-compiler", "torch", "triton"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
