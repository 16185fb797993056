"""Predicted seconds of a plan on a device: devices as data, the time model, and the candidates it is asked to compare."""

from einsum_compiler.cost.device import Device, Level, device

__all__ = ["Device", "Level", "device"]
