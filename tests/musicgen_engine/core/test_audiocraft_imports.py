"""An engine imports only what MusicGen needs.

The test runs it in a process of its own, because the tests' process has imported everything.
"""

import os
import subprocess
import sys
from pathlib import Path

from musicgen_engine.core.audiocraft_imports import PUT_OFF
from tests.conftest import ROOT

UNUSED = {*PUT_OFF, "matplotlib", "numba", "scipy", "sklearn", "sympy", "torch._dynamo"}


def engine(folder: Path) -> None:
    """Generate a song and encode audio, then compare the song with unmodified audiocraft's."""
    import numpy as np

    from musicgen_engine.config import ModelConfig
    from musicgen_engine.core.loaded_model import LoadedModel
    from protocol.request import GenerationRequest
    from tests.musicgen_engine.core.harness import generate
    from tests.musicgen_engine.core.reference import Reference

    model = LoadedModel.load(folder, ModelConfig(device="cpu"))
    os.chdir(ROOT)
    request = GenerationRequest(prompt="jazz", frames=20, seed=1, temperature=0.0)
    codes = generate(model, request).codes
    model.encode_audio(np.zeros((2, 44_100), np.float32), 44_100)
    assert not UNUSED & sys.modules.keys()
    assert np.array_equal(Reference(folder).codes(request), codes)
    assert "xformers" in sys.modules  # the reference needs the real one


def test_an_engine_imports_only_what_it_needs(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "tests.musicgen_engine.core.test_audiocraft_imports"]
    subprocess.run([*command, str(tiny_checkpoint)], cwd=ROOT, check=True, timeout=300)


if __name__ == "__main__":
    engine(Path(sys.argv[1]))
