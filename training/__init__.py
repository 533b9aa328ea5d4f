"""Makes musicgen-tiny: `python -m training FOLDER`. See docs/musicgen-tiny.md."""

from musicgen_engine.core import torchaudio_shim

torchaudio_shim.install()  # before any module here imports audiocraft
