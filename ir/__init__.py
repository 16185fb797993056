"""What a program is: cascade, plan, tile program, their text, their verifier. Imports nothing of ours."""

if __name__ != "einsum_compiler.ir":
    raise ImportError(f"import einsum_compiler.ir, not {__name__}: this folder is a part of that package")
