"""The machine that tests plan for, whatever they run on: plans and predicted times in expected texts are those of its figures."""

from __future__ import annotations

from einsum_compiler.cost.device import Device, Level

# Two cores with AVX2, as calibration measured them once.
ZEN3 = Device(
    "cpu", "two cores of a Zen 3", "cpu", "avx2", 2, 2.65e9, 1.3e-5, {"f32": 155e9, "f64": 47.6e9, "bf16": 140e9, "f16": 124e9},
    {"f32": 169.6e9, "f64": 84.8e9},
    {"exp": 3.6e9, "log": 1.47e9, "tanh": 1.32e9, "sin": 1.81e9, "sqrt": 10.2e9, "divide": 14.8e9, "transpose": 17.4e9, "convert": 11.7e9},
    (
        Level("L1", 32 << 10, "processor", 209e9), Level("L2", 512 << 10, "processor", 152e9), Level("L3", 32 << 20, "device", 68e9),
        Level("memory", 24 << 30, "device", 33e9),
    ),
)  # fmt: skip
