"""IR to IR: one pass a file, and the analyses they share. Imports ir only."""

if __name__ != "einsum_compiler.passes":
    raise ImportError(f"import einsum_compiler.passes, not {__name__}: this folder is a part of that package")
