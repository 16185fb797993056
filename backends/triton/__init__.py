"""Tile programs as Triton: source, launches, and static figures of targets that are not there.

Importing this imports neither Triton nor PyTorch.
"""

from einsum_compiler.backends.triton.cross import StaticFigures as StaticFigures
from einsum_compiler.backends.triton.cross import cross_compile as cross_compile
from einsum_compiler.backends.triton.emit import emit_triton as emit_triton
from einsum_compiler.backends.triton.launch import CompiledKernel as CompiledKernel
from einsum_compiler.backends.triton.launch import compile_kernel as compile_kernel
from einsum_compiler.backends.triton.warps import warps_for as warps_for
