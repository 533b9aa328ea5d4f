"""Makes musicgen-tiny: `python -m training`. See docs/musicgen-tiny.md."""

from musicgen_engine.core import torchaudio_shim

torchaudio_shim.install()  # before anything here imports audiocraft
