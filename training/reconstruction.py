"""Trains the codec's decoder to reconstruct audio from codes, and measures the result."""

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

from protocol.constants import SAMPLE_RATE
from protocol.constants import SAMPLES_PER_FRAME as HOP
from training import data
from training.checkpoint import save_atomically
from training.quantizer import dequantise

STEPS, WARMUP = 1_200, 100
PEAK_RATE, FINAL_RATE = 2e-4, 1e-5  # learning rates
SONGS = 300  # in the training set
EXCERPTS, FRAMES = 4, 50  # in a batch, and in an excerpt
CONTEXT = 2  # frames at both ends of an excerpt that the loss leaves out
SPECTRA = (256, 1_024, 2_048)  # samples of a window
REPORT_EVERY, SAVE_EVERY = 50, 200  # steps


def train(codec: Any, codes: Tensor, codebooks: Tensor, state: Path, device: torch.device) -> None:
    """Trains the decoder of `codec`. Resumes from the file `state` if it exists, and saves in it.

    Biases stay 0, so that silence stays silent.
    """
    decoder = codec.decoder.to(device).train()
    codebooks = codebooks.to(device)
    weights = [p for name, p in decoder.named_parameters() if "bias" not in name]
    optimizer = torch.optim.Adam(weights, betas=(0.8, 0.99))
    first_step = 0
    if state.exists():
        saved = torch.load(state, weights_only=True, map_location=device)
        decoder.load_state_dict(saved["decoder"])
        if saved["step"] == STEPS:
            return
        optimizer.load_state_dict(saved["optimizer"])
        first_step = saved["step"]
    songs = torch.stack([data.audio(number).half() for number in range(SONGS)])
    mean, since = 0.0, time.monotonic()
    for step in range(first_step, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        rng = Random(step)
        excerpts = [
            (rng.randrange(SONGS), rng.randrange(data.FRAMES - FRAMES)) for _ in range(EXCERPTS)
        ]
        inputs = torch.stack([codes[n, :, at : at + FRAMES] for n, at in excerpts]).to(device)
        target = torch.stack([songs[n, at * HOP : (at + FRAMES) * HOP] for n, at in excerpts])
        inner = slice(CONTEXT * HOP, -CONTEXT * HOP)
        audio = decoder(dequantise(inputs, codebooks))[:, 0]
        loss = reconstruction_loss(audio[:, inner], target.to(device).float()[:, inner])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        mean += loss.item() / REPORT_EVERY
        if (step + 1) % REPORT_EVERY == 0:
            seconds = (time.monotonic() - since) / REPORT_EVERY
            left = (STEPS - step - 1) * seconds / 60
            print(
                f"codec: step {step + 1} of {STEPS}, loss {mean:.3f}, {left:.0f} min left",
                flush=True,
            )
            mean, since = 0.0, time.monotonic()
        if (step + 1) % SAVE_EVERY == 0:
            saved = {"decoder": decoder.state_dict(), "optimizer": optimizer.state_dict()}
            save_atomically(saved | {"step": step + 1}, state)


def learning_rate(step: int) -> float:
    decay = (1 + math.cos(math.pi * step / STEPS)) / 2
    return FINAL_RATE + (PEAK_RATE - FINAL_RATE) * min(1, (step + 1) / WARMUP) * decay


def reconstruction_loss(audio: Tensor, original: Tensor) -> Tensor:
    """The distance of [..., samples]: of the waveforms, and of spectra at three resolutions."""
    total = 2 * (audio - original).abs().mean() / original.abs().mean().clamp(min=1e-4)
    for size in SPECTRA:
        ours, true = (_spectrum(sound, size) for sound in (audio, original))
        total = total + (ours - true).norm() / true.norm().clamp(min=1e-4)
        total = total + ((ours + 0.01).log() - (true + 0.01).log()).abs().mean()
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
    """The quality of decoded songs, by the instruments that play.

    `snr` (dB) and `log_mel` compare the song with its decoded `codes`; `encoded` (dB) compares it
    with its decoded codes from the codec's own encoder, which sees the sum of all parts.
    """
    codec.eval()
    measured: dict[str, list[tuple[float, float, float]]] = {}
    for number in numbers:
        original = data.audio(number, frames)
        audio = codec.decode(codes[number : number + 1, :, :frames].long())[0, 0]
        mel = (_log_mel(audio) - _log_mel(original)).abs().mean().item()
        encoded, _scale = codec.encode(original[None, None])
        decoded = codec.decode(encoded)[0, 0]
        players = data.song(number).instruments
        band = players[0] if len(players) == 1 else f"{len(players)} players"
        for group in (band, "all"):
            values = _snr(audio, original), mel, _snr(decoded, original)
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
