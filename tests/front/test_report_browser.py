"""The page of a report as a browser shows it: nothing clipped, nothing overlapping, no errors, no window too narrow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zlib
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import einsum_compiler as ec
from tests.passes import zoo

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
EXAMPLES = Path(__file__).parents[2] / "examples"
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason=f"no browser to look with: none of {', '.join(BROWSERS)} is on the path (Debian and Ubuntu: apt install chromium)",
)

# What a reader would see at once: text outside the window or its picture, texts on top of each other.
PROBE = """<script>
for (const d of document.querySelectorAll("details")) d.open = true;
const name = e => e.tagName + "." + (e.getAttribute("class") || "") + " " + e.textContent.trim().slice(0, 40);
const found = { width: document.documentElement.scrollWidth, window: innerWidth, texts: 0, outside: [], clipped: [], overlapping: [] };
for (const e of document.querySelectorAll("main *, nav *")) {
  if (e.closest("svg") || e.parentElement.closest(".scroll, .code")) continue;
  const r = e.getBoundingClientRect();
  if (r.width && (r.right > innerWidth + 1 || r.left < -1)) found.outside.push(name(e));
}
for (const svg of document.querySelectorAll("main svg")) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]);
  found.texts += texts.length;
  for (const [t, r] of texts)
    if (r.left < frame.left - 2 || r.right > frame.right + 2 || r.top < frame.top - 2 || r.bottom > frame.bottom + 2)
      found.clipped.push(name(t));
  texts.forEach(([t, a], i) => texts.slice(i + 1).forEach(([u, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    const least = Math.min(a.width * a.height, b.width * b.height);
    if (wide > 0 && high > 0 && wide * high > 0.2 * least) found.overlapping.push(name(t) + " | " + name(u));
  }));
}
const out = document.createElement("pre");
out.id = "probe";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>"""


def run(page: Path, width: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        BROWSER or "", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},1000", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def probed(page: Path, width: int) -> dict[str, Any]:
    """What the probe found, and that the console stayed empty."""
    copy = page.with_name(f"probe-{page.name}")
    copy.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    done = run(copy, width, "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    return json.loads(unescape(found[1]))


@pytest.fixture(scope="module", params=["window", "column_sum", "layernorm"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = {
        "window": EXAMPLES / "window.ein",
        "column_sum": zoo.COLUMN_SUM,
        "layernorm": zoo.LAYERNORM_GEMM,
    }[request.param]
    return ec.compile(text).report(tmp_path_factory.mktemp(request.param) / "page.html")


@pytest.mark.parametrize("width", [1200, 700])
def test_nothing_is_clipped_and_nothing_overlaps(page: Path, width: int) -> None:
    found = probed(page, width)
    assert found["window"] == width and found["width"] <= width, "the page scrolls sideways"
    assert found["texts"] > 20
    assert found["outside"] == [] and found["clipped"] == [] and found["overlapping"] == []


def test_the_picture_is_not_blank(page: Path) -> None:
    shot = page.with_suffix(".png")
    run(page, 1200, f"--screenshot={shot}")
    content = shot.read_bytes()
    assert content.startswith(b"\x89PNG") and int.from_bytes(content[16:20]) == 1200
    packed, place = b"", 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4])
        if content[place + 4 : place + 8] == b"IDAT":
            packed += content[place + 8 : place + 8 + length]
        place += length + 12
    rows = zlib.decompress(packed)
    stride = len(rows) // int.from_bytes(content[20:24])
    drawn = sum(len(set(rows[i + 1 : i + stride])) > 4 for i in range(0, len(rows), stride))
    assert drawn > 400, "most rows of pixels hold nothing"
