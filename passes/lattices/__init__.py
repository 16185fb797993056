"""Reduced ranks that a filter holds to a lattice, and results that repeat from one lattice point to the next."""
