"""What an engine imports, in a process of its own: this one has imported everything."""

import os
import subprocess
import sys
from pathlib import Path

from musicgen_engine.core.audiocraft_imports import PUT_OFF
from tests.conftest import ROOT

UNUSED = {*PUT_OFF, "matplotlib", "numba", "scipy", "sklearn", "sympy", "torch._dynamo"}


def engine(folder: Path) -> None:
    """Plays a song and encodes audio, then compares the song with unmodified audiocraft's."""
    import numpy as np

    from musicgen_engine.config import Placement
    from musicgen_engine.core.loaded_model import Model
    from protocol.request import Song
    from tests.musicgen_engine.core.reference import Reference
    from tests.musicgen_engine.core.studio import play

    model = Model.load(folder, Placement(device="cpu"))
    os.chdir(ROOT)
    song = Song(prompt="jazz", frames=20, seed=1, temperature=0.0)
    codes = play(model, song).codes
    model.encode(np.zeros((2, 44_100), np.float32), 44_100)
    assert not UNUSED & sys.modules.keys()
    assert np.array_equal(Reference(folder).codes(song), codes)
    assert "xformers" in sys.modules  # which the reference needs: a real one by now


def test_an_engine_imports_only_what_it_needs(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "tests.musicgen_engine.core.test_audiocraft_imports"]
    subprocess.run([*command, str(tiny_checkpoint)], cwd=ROOT, check=True, timeout=300)


if __name__ == "__main__":
    engine(Path(sys.argv[1]))
