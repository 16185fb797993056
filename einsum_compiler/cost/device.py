"""Devices as data: rates of the units, bytes and bandwidth of every level of memory, and what a launch costs."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.hints import did_you_mean

FOLDER = Path(__file__).resolve().parent / "devices"


@dataclass(frozen=True)
class Level:
    """A level of memory. ``per``: ``processor`` or ``device``, whose bytes these are. ``bandwidth``: bytes per second of the whole device."""

    name: str
    bytes: int
    per: str
    bandwidth: float


@dataclass(frozen=True)
class Limits:
    """What a program of a GPU may take: bytes of shared memory, 32-bit registers of a processor and of a thread, warps of a processor, threads of a warp."""

    shared: int
    registers: int
    registers_per_thread: int
    warps: int
    lanes: int


@dataclass(frozen=True)
class Device:
    """A device, all of it: rates are per second and for all processors together.

    ``matrix``: operations (two per multiply-add) of products by element type of the operands, where the device has a unit for them. ``vector``: the same of vector code.
    ``functions``: results of ``exp``, ``log``, ``tanh``, ``sqrt``, ``sin`` and ``divide`` in f32. ``levels``: from the registers outwards; the last is the memory of the device.
    ``launch``: seconds from the end of one kernel to the start of the next. ``measured``: whether the figures were measured here (else from ``sources``).
    """

    name: str
    title: str
    backend: str
    target: str
    processors: int
    clock: float
    launch: float
    matrix: Mapping[str, float]
    vector: Mapping[str, float]
    functions: Mapping[str, float]
    levels: tuple[Level, ...]
    limits: Limits | None = None
    sources: tuple[str, ...] = ()
    match: str = ""
    measured: bool = False

    def level(self, name: str) -> Level:
        """A level by name; raises ``KeyError``."""
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(name)

    @property
    def memory(self) -> Level:
        """The level that inputs and outputs are in."""
        return self.levels[-1]

    def product_rate(self, dtype: str) -> float:
        """Operations per second of products of operands of a type: on the matrix unit, else on vectors of it, else of f32."""
        return self.matrix.get(dtype) or self.vector.get(dtype) or self.vector["f32"]

    @property
    def digest(self) -> str:
        """A short name for these figures: plans chosen with others may differ."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


# Special-function instructions of a GPU for one f32 result; a quotient is a reciprocal with refinement in vector code.
SPECIAL_INSTRUCTIONS = {"exp": 1.0, "log": 1.0, "sqrt": 1.0, "divide": 1.0, "sin": 1.0, "tanh": 2.0}


def names() -> tuple[str, ...]:
    """Every device there is data for, and ``cpu``: the machine this runs on."""
    return ("cpu", *sorted(path.stem for path in FOLDER.glob("*.toml")))


def device(name: str) -> Device:
    """A device by name: ``h100``, ``h200``, ``a100``, ``b200``, ``mi300x``, or ``cpu`` for the machine this runs on.

    The figures of ``cpu`` are those that ``cost.calibration.calibrate`` measured and kept, else an estimate from the processor's description.
    Raises ``BackendError`` for an unknown name.
    """
    if name == "cpu":
        from einsum_compiler.cost.cpu import cpu_device

        return cpu_device()
    if name not in names():
        raise BackendError(f"unknown device '{name}'; one of {', '.join(names())}", None, did_you_mean(name, names()))
    return _read(name)


@cache
def _read(name: str) -> Device:
    data: dict[str, Any] = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    special = data.pop("special")["per_second"]
    levels = tuple(Level(**level) for level in data.pop("levels"))
    functions = {f: special / count for f, count in SPECIAL_INSTRUCTIONS.items()}
    limits = Limits(**data.pop("limits"))
    return Device(functions=functions, levels=levels, limits=limits, sources=tuple(data.pop("sources")), **data)


def device_for(backend: str, target: str | None = None) -> Device:
    """The device that kernels of a backend are planned for: the GPU that is there, else the first one of the target, else an H100."""
    if backend == "cpu":
        return device("cpu")
    gpus = [_read(name) for name in names() if name != "cpu"]
    if target is not None:
        return next((d for d in gpus if d.target == target), _read("h100"))
    present = _present()
    return next((d for d in gpus if d.match in present), _read("h100"))


def is_present(device: Device) -> bool:
    """Whether the device is a GPU that is there."""
    return bool(device.match) and device.match in _present()


@cache
def _present() -> str:
    """The name of the GPU that is there, as its driver says it."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
