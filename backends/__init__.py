"""Tile programs to something that runs: reference, triton, cpu. Import ir and templates only."""

if __name__ != "einsum_compiler.backends":
    raise ImportError(f"import einsum_compiler.backends, not {__name__}: this folder is a part of that package")
