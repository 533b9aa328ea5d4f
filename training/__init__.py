"""Makes musicgen-tiny: `python -m training FOLDER`. See docs/musicgen-tiny.md."""

from musicgen_engine.core.audiocraft_imports import make_torchaudio_importable

make_torchaudio_importable()  # before any module here imports audiocraft
