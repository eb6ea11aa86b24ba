"""What starting the command line imports: it has to be quick on a small device."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import vae_edge

# numpy and rich take most of the time to a command's help; the others are never needed for it.
HEAVY = ("numpy", "PIL", "ai_edge_litert", "tflite_runtime", "onnxruntime")
HELP = """
import contextlib, io
from vae_edge.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert "Usage" in out.getvalue()
"""


def imported(code, *arguments, of):
    """Run code in a process of its own; gives which of these modules it has imported."""
    script = f"import sys, json\n{code}\nprint(json.dumps([m for m in {of!r} if m in sys.modules]))"
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_check_would_see_them():
    assert imported("import numpy, PIL", of=HEAVY) == ["numpy", "PIL"]


def test_command_line_is_imported_without_numpy_runtimes_and_rich():
    assert imported("import vae_edge.cli.app", of=(*HEAVY, "rich", "importlib.metadata")) == []


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"]])
def test_help_is_shown_without_numpy_and_runtimes(arguments):
    assert imported(HELP, *arguments, of=HEAVY) == []


def test_what_the_package_offers_is_there_when_asked_for():
    assert {name for name in vae_edge.__all__ if not hasattr(vae_edge, name)} == set()
    assert set(vae_edge.__all__) <= set(dir(vae_edge))
    with pytest.raises(AttributeError, match="'vae_edge' has no attribute 'nonsense'"):
        _ = vae_edge.nonsense


def test_words_are_imported_without_numpy():
    code = "import vae_edge; vae_edge.Format, vae_edge.Precision, vae_edge.VaeEdgeError"
    assert imported(code, of=HEAVY) == []
    assert imported("from vae_edge.terms import FloatArray", of=("numpy",)) == ["numpy"]
