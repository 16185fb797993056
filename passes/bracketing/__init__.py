"""The orders of a contraction: its bracketings, their text, the cascades they make and what these cost."""
