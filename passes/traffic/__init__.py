"""Traffic and footprint of tile programs at each level of memory: exact counts, a cache model, closed forms."""

from einsum_compiler.passes.traffic.exact import KernelTraffic, TensorTraffic, traffic_of

__all__ = ["KernelTraffic", "TensorTraffic", "traffic_of"]
