"""Skeletons of whole files (jinja2), data only."""

if __name__ != "einsum_compiler.templates":
    raise ImportError(f"import einsum_compiler.templates, not {__name__}: this folder is a part of that package")
