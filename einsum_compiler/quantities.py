"""Numbers for people: three significant digits, a unit, and decimal prefixes (1 MB is 10^6 bytes)."""

from __future__ import annotations

PREFIXES = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def scaled(value: float, unit: str = "") -> str:
    """``1.23 G``, ``16.8 MB``, ``512 B``; below 1000 a whole number is printed as it is."""
    for factor, prefix in PREFIXES:
        if abs(value) >= 0.9995 * factor:  # what would print as 1000 takes the next prefix
            return f"{_digits(value / factor)} {prefix}{unit}"
    shown = str(round(value)) if float(value).is_integer() else _digits(value)
    return f"{shown} {unit}".rstrip()


def rounded(value: float, unit: str = "") -> str:
    """The same without zeros behind the point: ``10 MB``, for axes."""
    number, _, rest = scaled(value, unit).partition(" ")
    return f"{float(number):g} {rest}".rstrip()


def data(count: float) -> str:
    """Bytes: ``16.8 MB``."""
    return scaled(count, "B")


def duration(seconds: float) -> str:
    """``12.3 ms``, ``4.56 us`` or ``1.20 s``."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= 0.9995 * factor:
            return f"{_digits(seconds / factor)} {unit}"
    return f"{_digits(seconds * 1e9)} ns"


def ratio(value: float) -> str:
    """``1.00`` to ``99.5``, then whole: how many times."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def _digits(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"
