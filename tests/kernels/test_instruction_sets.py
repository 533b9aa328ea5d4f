"""Instruction sets agree to the bit, also those that this processor lacks."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import kernels
from kernels.build import OPTIONS, SOURCES
from musicgen_engine.core.codec import streaming_codec
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.native_sampler import NativeSampler
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import Samples
from tests.conftest import ROOT
from tests.musicgen_engine.model.random_weights import config, run, text, weights
from tests.musicgen_engine.model.test_native import new
from tests.musicgen_engine.model.test_native_sampler import codes
from tests.musicgen_engine.model.test_streaming_codec import FRAMES, VOCAB_SIZE, audiocrafts

EMULATED = Path(__file__).with_name("emulated.h")
SHAPES = [
    config(dim=192, heads=6, ffn_dim=320),  # groups of inputs that are not full
    config(dim=384, heads=6, ffn_dim=1536, rotary=True),
    config(dim=1024, heads=16, ffn_dim=4096, layers=1),
]


def digest_with(libraries: Path, instruction_set: str) -> str:
    environment = {**os.environ, "KERNELS": str(libraries), "KERNEL": instruction_set}
    command = [sys.executable, "-m", "tests.kernels.test_instruction_sets"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", ["amx", "avx512vnni", "avxvnni"])
def test_emulated_instruction_sets_give_the_bits_of_avx2(
    tmp_path: Path, instruction_set: str
) -> None:
    compiler = shutil.which("c++")
    avx2 = next((one for one in kernels.supported() if one.name == "avx2"), None)
    if compiler is None or avx2 is None:
        pytest.skip("this needs a C++ compiler and AVX2")
    emulation = f"-DEMULATE_{instruction_set.upper()}", "-include", str(EMULATED), "-Wno-psabi"
    command = [compiler, *OPTIONS, *avx2.options, *emulation, *SOURCES]
    subprocess.run([*command, "-o", str(tmp_path / avx2.library.name)], check=True)
    assert digest_with(tmp_path, avx2.name) == digest_with(kernels.libraries(), avx2.name)


def digest() -> str:
    """Of the logits of every shape and precision, the samples of a codec, and sampled codes."""
    results: list[npt.NDArray[Any]] = [samples(native_codec(streaming_codec(audiocrafts())))]
    results.append(codes(NativeSampler, seed=0).numpy())
    for shape in SHAPES:
        first, second = (text(seed, tokens, shape.dim) for seed, tokens in ((1, 5), (2, 20)))
        conditioning = Conditioning((first, second))
        plain = weights(shape)
        halves = replace(plain, heads=plain.heads.half().float())  # kept in float16
        for precision, of in ((torch.float32, plain), (torch.float32, halves), (torch.int8, plain)):
            results.append(run(new("native", precision, shape, of), conditioning).numpy())
    assert all(np.isfinite(result).all() for result in results)
    return hashlib.sha256(b"".join(result.tobytes() for result in results)).hexdigest()


def samples(codec: StreamingCodec) -> Samples:
    codes = np.random.default_rng(1).integers(VOCAB_SIZE, size=(4, FRAMES), dtype=np.int32)
    return codec.stream().push(codes, last=True)


if __name__ == "__main__":
    print(digest())
