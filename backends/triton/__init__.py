"""Tile programs as Triton: source, launches, and static figures of targets that are not there."""
