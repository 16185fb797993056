"""Traffic and footprint of tile programs at each level of memory: exact counts, a cache model, closed forms."""

from einsum_compiler.passes.traffic.cache import CachedTraffic, traffic_behind_cache
from einsum_compiler.passes.traffic.exact import KernelTraffic, TensorTraffic, traffic_of
from einsum_compiler.passes.traffic.footprint import Footprint, footprint_of

__all__ = [
    "CachedTraffic",
    "Footprint",
    "KernelTraffic",
    "TensorTraffic",
    "footprint_of",
    "traffic_behind_cache",
    "traffic_of",
]
