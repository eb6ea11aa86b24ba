"""The pages can be followed: their commands and Python run, their links and pictures exist.

In a page, a block of ```sh or ```python is run, unless an HTML comment right above it says why not:
<!-- not run: it needs a camera -->. Blocks without a language are output or excerpts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from PIL import Image

import vae_edge

ROOT = Path(vae_edge.__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
PLACES = ["raspberry-pi.md", "laptop.md", "android.md", "ios.md", "web.md"]
RUN = ("sh", "python")
# What pages name; more would only take longer.
FILES = ("encoder.int8.tflite", "decoder.int8.tflite")

_BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def blocks_to_run(page):
    """`(language, code)` of the blocks that are not marked, in their order."""
    found = _BLOCK.findall(page.read_text())
    return [(language, code) for mark, language, code in found if language in RUN and not mark]


def links(text):
    code = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [link for link in _LINK.findall(code) if "://" not in link and "mailto:" not in link]


def anchor(heading):
    """As GitHub makes it: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_that_can_run_is_found(page):
    """An indented one, or a comment that is not right above it, would go unnoticed."""
    text = page.read_text()
    opened = len(re.findall(rf"```(?:{'|'.join(RUN)})\n", text))

    assert len([1 for _, language, _ in _BLOCK.findall(text) if language in RUN]) == opened
    assert text.count("<!-- not run") == sum(bool(mark) for mark, _, _ in _BLOCK.findall(text))


@pytest.fixture
def shell(tmp_path, make_tiny_bundle):
    """`run(language, code)` in a directory that holds the bundle where pages have it."""
    bundle = make_tiny_bundle(FILES, name="mnist-vae")
    shutil.copytree(bundle, tmp_path / "build" / "mnist-vae")
    commands = tmp_path / "bin"
    commands.mkdir()
    command = commands / "vae-edge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vae_edge "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    starts = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}

    def run(language, code):
        ran = subprocess.run(
            [*starts[language], code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{code}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLACES if blocks_to_run(ROOT / "docs" / name)])
def test_blocks_of_a_place_run(name, shell):
    for language, code in blocks_to_run(ROOT / "docs" / name):
        shell(language, code)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks_to_run(page) and page.name not in PLACES],
    ids=lambda page: page.name,
)
def test_blocks_of_another_page_have_a_test_of_their_own(page):
    tests = [test for test in (ROOT / "tests").rglob("*.py") if test != Path(__file__)]

    assert any(page.name in test.read_text() for test in tests)


def test_interpreter_and_compiled_model_agree_as_android_says(shell):
    (comparison,) = (
        code for name, code in blocks_to_run(ROOT / "docs" / "android.md") if name == "python"
    )

    assert float(shell("python", comparison).split("difference: ")[1]) < 1e-6


# Two frames of noise, and then the camera is pulled out.
CAMERA = """
import numpy as np
from PIL import Image


class Picamera2:
    left = 2

    def create_video_configuration(self, main):
        self.size = main["size"]

    def configure(self, configuration):
        pass

    def start(self):
        pass

    def capture_image(self, name):
        assert name == "main"
        if not self.left:
            raise SystemExit
        self.left -= 1
        width, height = self.size
        noise = np.random.default_rng(self.left).integers(0, 256, (height, width, 3), np.uint8)
        return Image.fromarray(noise)
"""


def test_loop_of_the_raspberry_pi_scores_frames(shell, tmp_path):
    """With a stand-in for the camera's library."""
    text = (ROOT / "docs" / "raspberry-pi.md").read_text()
    (loop,) = (code for _, _, code in _BLOCK.findall(text) if "import Picamera2" in code)
    (tmp_path / "picamera2.py").write_text(CAMERA)
    (tmp_path / "watch.py").write_text(loop)

    reported = shell("sh", f"{sys.executable} watch.py 0").splitlines()

    assert len(reported) == 2
    assert all(re.fullmatch(r"\d+\.\d nats", line) for line in reported)
    assert shell("sh", f"{sys.executable} watch.py 1e9") == ""


@pytest.mark.parametrize("name", PLACES)
def test_page_of_a_place_starts_from_a_bundle_and_has_a_picture(name):
    text = (ROOT / "docs" / name).read_text()
    pictures = [link for link in links(text) if link.endswith(".png")]

    assert "From a bundle, `build/mnist-vae`" in text.split("\n## ")[0]
    assert pictures == [f"pictures/{name.removesuffix('.md')}.png"]
    with Image.open(ROOT / "docs" / pictures[0]) as picture:
        picture.verify()
    assert (ROOT / "docs" / pictures[0]).stat().st_size < 32_000


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_relative_links_lead_somewhere(text):
    for link in links(text.read_text()):
        path, _, fragment = urllib.parse.unquote(link).partition("#")
        target = (text.parent / path) if path else text
        assert target.exists(), f"{text.name}: {link}"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{text.name}: {link}"


def test_index_lists_every_page_once():
    listed = links((ROOT / "docs" / "README.md").read_text())

    listed = sorted(link for link in listed if "/" not in link)
    assert listed == sorted(page.name for page in PAGES if page.name != "README.md")
