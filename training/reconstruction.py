"""Trains the codec's decoder on what the codes leave of the audio, and measures it."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import librosa
import numpy as np
import torch
from torch import Tensor

from protocol.request import SAMPLE_RATE
from protocol.request import SAMPLES_PER_FRAME as HOP
from training import data
from training.files import keep
from training.quantizer import dequantise

STEPS, WARMUP = 1_200, 100
PEAK, LAST = 2e-4, 1e-5  # learning rates
SONGS = 300  # that it learns from
EXCERPTS, FRAMES, CONTEXT = 4, 50, 2  # in a step; frames at both ends that are not judged
SPECTRA = (256, 1_024, 2_048)  # samples
REPORT, SAVE = 50, 200  # steps


def train(codec: Any, codes: Tensor, books: Tensor, state: Path, device: torch.device) -> None:
    """Trains `codec`'s own; goes on from the file `state` if there is one, and ends there too.

    Biases stay 0: silence is silent.
    """
    decoder = codec.decoder.to(device).train()
    books = books.to(device)
    weights = [p for name, p in decoder.named_parameters() if "bias" not in name]
    optimizer = torch.optim.Adam(weights, betas=(0.8, 0.99))
    begin = 0
    if state.exists():
        saved = torch.load(state, weights_only=True, map_location=device)
        decoder.load_state_dict(saved["decoder"])
        if saved["step"] == STEPS:
            return
        optimizer.load_state_dict(saved["optimizer"])
        begin = saved["step"]
    songs = torch.stack([data.audio(number).half() for number in range(SONGS)])
    mean, since = 0.0, time.monotonic()
    for step in range(begin, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        rng = Random(step)
        excerpts = [
            (rng.randrange(SONGS), rng.randrange(data.FRAMES - FRAMES)) for _ in range(EXCERPTS)
        ]
        heard = torch.stack([codes[n, :, at : at + FRAMES] for n, at in excerpts]).to(device)
        true = torch.stack([songs[n, at * HOP : (at + FRAMES) * HOP] for n, at in excerpts])
        inner = slice(CONTEXT * HOP, -CONTEXT * HOP)
        audio = decoder(dequantise(heard, books))[:, 0]
        loss = difference(audio[:, inner], true.to(device).float()[:, inner])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        mean += loss.item() / REPORT
        if (step + 1) % REPORT == 0:
            seconds = (time.monotonic() - since) / REPORT
            left = (STEPS - step - 1) * seconds / 60
            print(
                f"codec: step {step + 1} of {STEPS}, loss {mean:.3f}, {left:.0f} min left",
                flush=True,
            )
            mean, since = 0.0, time.monotonic()
        if (step + 1) % SAVE == 0:
            saved = {"decoder": decoder.state_dict(), "optimizer": optimizer.state_dict()}
            keep(saved | {"step": step + 1}, state)


def learning_rate(step: int) -> float:
    decay = (1 + math.cos(math.pi * step / STEPS)) / 2
    return LAST + (PEAK - LAST) * min(1, (step + 1) / WARMUP) * decay


def difference(audio: Tensor, original: Tensor) -> Tensor:
    """How different [..., samples] sound: their waveforms, and spectra at three resolutions."""
    total = 2 * (audio - original).abs().mean() / original.abs().mean().clamp(min=1e-4)
    for size in SPECTRA:
        one, other = (_spectrum(sound, size) for sound in (audio, original))
        total = total + (one - other).norm() / other.norm().clamp(min=1e-4)
        total = total + ((one + 0.01).log() - (other + 0.01).log()).abs().mean()
    return total


def _spectrum(audio: Tensor, size: int) -> Tensor:
    window = torch.hann_window(size, device=audio.device)
    spectrum: Tensor = torch.stft(
        audio, size, size // 4, window=window, return_complex=True, normalized=True
    )
    return spectrum.abs()


@torch.inference_mode()
def evaluate(
    codec: Any, codes: Tensor, numbers: Sequence[int], frames: int = 500
) -> dict[str, dict[str, float]]:
    """What comes back of songs, by their bands: signal to noise (dB) and log-mel distance.

    `snr` and `log_mel` are for the `codes` that the parts have, `encoded` is the signal to noise
    for those that the codec's own encoder finds in the sum.
    """
    codec.eval()
    measured: dict[str, list[tuple[float, float, float]]] = {}
    for number in numbers:
        original = data.audio(number, frames)
        audio = codec.decode(codes[number : number + 1, :, :frames].long())[0, 0]
        mel = (_log_mel(audio) - _log_mel(original)).abs().mean().item()
        found, _scale = codec.encode(original[None, None])
        again = codec.decode(found)[0, 0]
        players = data.song(number).instruments
        band = players[0] if len(players) == 1 else f"{len(players)} players"
        for group in (band, "all"):
            values = _snr(audio, original), mel, _snr(again, original)
            measured.setdefault(group, []).append(values)
    names = "snr", "log_mel", "encoded"
    return {
        group: dict(zip(names, np.mean(values, axis=0).round(2).tolist(), strict=True))
        for group, values in sorted(measured.items())
    }


def _snr(audio: Tensor, original: Tensor) -> float:
    noise = (audio - original).square().sum() / original.square().sum()
    return -10 * math.log10(noise.item())


def _log_mel(audio: Tensor) -> Tensor:
    spectrum = librosa.feature.melspectrogram(
        y=audio.numpy(), sr=SAMPLE_RATE, n_fft=2_048, hop_length=HOP, n_mels=64, power=1
    )
    return torch.from_numpy(spectrum + 0.01).log()
