"""The CPU rows of the figures to reach: compiled cascades beside SDPA and compiled FlexAttention, interleaved in one process.

    python benchmarks/cpu.py [--quick] [--rows NAME,...] [--resume] [--out DIR]

``--rows`` measures some rows and leaves the others of the results as they are; ``--resume`` measures those that the results lack. Results of
another machine or other versions are not kept. A forward row takes half a minute, most of it FlexAttention's compilation.

Correctness comes first: every row is compared with float64 before it is timed. Times are medians of interleaved runs; ratios are medians of
the ratios of neighbouring runs, so that a machine whose speed drifts still gives a fair answer. Writes JSON and a readable table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cpu_decoding import Decoding, decode
from benchmarks.cpu_rows import ROWS, TEXT, Backward, Result, backward, measure
from benchmarks.machine import machine

FIRST_CALL = """
import sys, time, torch
sys.path.insert(0, {root!r})
import einsum_compiler as ec
q = torch.randn(1, 8, 256, 64)
start = time.perf_counter()
ec.compile({text!r})(q, q, q)
print(time.perf_counter() - start)
"""


def first_call() -> dict[str, float]:
    """Seconds from the text to the first result in a fresh process (imports of torch apart), with a cold and a warm cache.

    Bytecode is there, as where the package is installed: a run that is not counted writes it.
    """
    root = str(Path(__file__).resolve().parents[1])
    code = FIRST_CALL.format(root=root, text=TEXT.format(filter="where n <= m"))
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds(folder: str) -> float:
        environment = {**kept, "EINSUM_CACHE_DIR": folder}
        output = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        return float(output.stdout.split()[-1])

    with tempfile.TemporaryDirectory() as uncounted, tempfile.TemporaryDirectory() as folder:
        seconds(uncounted)
        return {"cold": seconds(folder), "warm": seconds(folder)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs and no FlexAttention")
    parser.add_argument("--rows", default="", help="names of rows, comma-separated")
    parser.add_argument("--resume", action="store_true", help="only rows that the results lack")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args()
    rows = [r for r in options.rows.split(",") if r]
    unknown = sorted(set(rows) - set(NAMES))
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    path = Path(options.out) / "cpu.json"
    record = _kept(path)
    wanted = rows or [n for n in NAMES if not (options.resume and _has(record, n))]
    runs = 5 if options.quick else 15
    for name in wanted:
        _measure(name, runs, not options.quick, record)
        if not options.quick:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1) + "\n")


NAMES = (
    *(r.name for r in ROWS),
    *(f"backward {r.name}" for r in ROWS if r.mask != "window"),
    "decode float32",
    "decode bfloat16",
    "first call",
)
SECTIONS = {"rows": "row", "backward": "row", "decoding": "dtype"}


def _kept(path: Path) -> dict[str, Any]:
    """The results that are there, if they are of this machine and these versions."""
    here = machine()
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("machine") != here:
        found = {"machine": here}
    return {
        "machine": here,
        **{section: found.get(section, []) for section in SECTIONS},
        "first_call": found.get("first_call"),
    }


def _has(record: dict[str, Any], name: str) -> bool:
    section, key = _place(name)
    return (
        bool(record["first_call"])
        if section == "first_call"
        else any(r[SECTIONS[section]] == key for r in record[section])
    )


def _place(name: str) -> tuple[str, str]:
    """The section of the results that a row stands in, and its key there."""
    first, _, rest = name.partition(" ")
    if name == "first call":
        return "first_call", ""
    return ("backward", rest) if first == "backward" else ("decoding", rest) if first == "decode" else ("rows", name)


def _measure(name: str, runs: int, with_flex: bool, record: dict[str, Any]) -> None:
    """Measures one row, prints it and puts it into the results."""
    section, key = _place(name)
    found: Result | Backward | Decoding
    if section == "first_call":
        start = record["first_call"] = first_call()
        print(f"first call: cold {start['cold']:.2f} s, warm {start['warm']:.2f} s", flush=True)
        return
    row = next((r for r in ROWS if r.name == key), ROWS[0])
    if section == "rows":
        found = measure(row, runs, with_flex)
        flex = f", Flex {found.flex * 1e3:8.2f} ms ({found.ratio_flex:.2f} x)" if found.flex else ""
        more = flex + "".join(f", {peer} {value:.2f} x" for peer, value in found.others.items())
        rate = f" ({found.gigaflops:6.1f} GFLOP/s)"
    elif section == "backward":
        found = backward(row, runs)
        more = f", with the forward pass {found.ours_both * 1e3:8.2f} ms ({found.ratio_both:.2f} x)"
        rate = f" ({found.gigaflops:6.1f} GFLOP/s)"
    else:
        found, more = decode(key, runs), ""
        rate = f" ({found.gigabytes:.1f} GB/s of {found.bandwidth:.1f})"
    print(
        f"{name:20s} ours {found.ours * 1e3:8.2f} ms{rate}, SDPA {found.sdpa * 1e3:8.2f} ms ({found.ratio_sdpa:.2f} x){more}",
        flush=True,
    )
    others = [r for r in record[section] if r[SECTIONS[section]] != key]
    record[section] = [*others, asdict(found)]


if __name__ == "__main__":
    main()
