"""MusicGen itself: the one module that touches audiocraft."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicgen_engine import torchaudio_shim
from musicgen_engine.song import Samples, Song

# Loading a checkpoint must not run code from it, whatever the environment says: the first variable
# would allow it, the second forbids it to every caller.
os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

torchaudio_shim.install()
# audiocraft and the libraries it pulls in warn about each other's versions and about training.
logging.getLogger("xformers").setLevel(logging.ERROR)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import audiocraft.models.musicgen as audiocraft
    import huggingface_hub.constants
    import torch
    import transformers.utils.logging

transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]

if TYPE_CHECKING:
    from audiocraft.models.musicgen import MusicGen as Audiocraft


class _Progress:
    """Turns audiocraft's steps into frames done.

    audiocraft makes a long song window by window. Each window takes `delay` steps more than it has
    new frames: a frame is done when its most delayed codebook is.
    """

    def __init__(self, delay: int, on_frame: Callable[[int], None]) -> None:
        self._delay = delay
        self._on_frame = on_frame
        self._finished = 0  # frames of the windows before this one
        self._step = 0

    def __call__(self, generated: int, steps: int) -> None:
        """`steps` is the number of them in this window; `generated` counts no prompt: not used."""
        self._step += 1
        self._on_frame(self._finished + max(0, self._step - self._delay))
        if self._step == steps:
            self._finished += steps - self._delay
            self._step = 0


class MusicGen:
    """One checkpoint on one device, one song at a time."""

    def __init__(self, model: Audiocraft) -> None:
        self._model = model
        self.channels: int = model.audio_channels
        self.sample_rate: int = model.sample_rate
        self.frame_rate = int(model.frame_rate)
        self.device = str(model.device)

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> MusicGen:
        """Loads the checkpoint in `folder`: state_dict.bin and compression_state_dict.bin.

        Without a `device` it goes to the GPU where there is one.

        A text encoder in a folder of its own there (such as `t5-small`) is used rather than the
        hub's: audiocraft asks for it by name, which finds a folder of the working directory first.
        So this changes the working directory, which belongs to the one model of an engine process.
        """
        # All there is to load is on the disk by now (see weights.fetch). Without this, transformers
        # asks the hub for news of each file, and waits long for a hub that does not answer.
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        folder = folder.resolve()
        os.chdir(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(audiocraft.MusicGen.get_pretrained(str(folder), device=device))

    def generate(self, song: Song, on_frame: Callable[[int], None]) -> Samples:
        """Makes the whole song: float32 [channels, frames * 640], nominally within -1 and 1.

        The same song gives the same samples, those of audiocraft after `torch.manual_seed(seed)`.

        Args:
            on_frame: gets the number of frames done after each step, at most `song.frames`. What
                it raises ends the song there, and the model is ready for the next one.
        """
        pattern: Any = self._model.lm.pattern_provider
        progress = _Progress(max(pattern.delays), on_frame)
        self._model.set_custom_progress_callback(progress)
        self._model.set_generation_params(
            # The half frame keeps audiocraft's int(duration * frame_rate) off the edge, where
            # binary fractions would lose a frame.
            duration=(song.frames + 0.5) / self.frame_rate,
            use_sampling=song.temperature > 0,
            temperature=song.temperature,
            top_k=min(song.top_k, self._model.lm.card),
            top_p=song.top_p,
            cfg_coef=song.cfg_coef,
        )
        torch.manual_seed(song.seed)
        audio: Any = self._model.generate([song.prompt], progress=True)
        samples: Samples = audio[0].float().cpu().numpy()
        expected = (self.channels, song.frames * self.sample_rate // self.frame_rate)
        assert samples.shape == expected, f"{samples.shape} instead of {expected}"
        return samples
