"""Makes the included models: `python -m training FOLDER`, `python -m training.train_melody FOLDER`.

See docs/musicgen-tiny.md and docs/musicgen-tiny-melody.md.
"""

from musicgen_engine.core.audiocraft_imports import make_torchaudio_importable

make_torchaudio_importable()  # before any module here imports audiocraft
