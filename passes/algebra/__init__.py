"""Algebra on expressions: SymPy decides, our nodes are stored."""
