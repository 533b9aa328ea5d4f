"""The checkpoint that ships with the service."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from protocol.request import GenerationRequest
from tests.musicgen_engine.conftest import TINY
from tests.musicgen_engine.conftest import load as load_model
from tests.musicgen_engine.core.harness import generate_together

FILES = ["state_dict.bin", "compression_state_dict.bin"]


def load(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    package = torch.load(file, weights_only=True)
    assert package["exported"] is True
    assert package["version"] == "1.3.0"
    config: Any = OmegaConf.to_container(OmegaConf.create(package["xp.cfg"]))
    return package["best_state"], config


def test_its_files_are_small_and_everyone_can_read_them() -> None:
    files = [TINY / name for name in FILES] + list((TINY / "t5-small").iterdir())
    assert sum(file.stat().st_size for file in files) < 20_000_000
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in files)


def test_the_language_model_has_musicgens_structure() -> None:
    state, config = load(TINY / FILES[0])
    lm = config["transformer_lm"]
    assert (lm["n_q"], lm["card"]) == (4, 1_024)
    assert lm["positional_embedding"] == "rope" and not lm["memory_efficient"]
    assert config["codebooks_pattern"]["delay"]["delays"] == [0, 1, 2, 3]
    text = config["conditioners"]["description"]["t5"]
    assert (text["name"], text["finetune"]) == ("t5-small", False)
    assert config["dataset"]["segment_duration"] == 30
    assert state["emb.0.weight"].shape == (1_025, lm["dim"])
    assert any("cross_attention" in name for name in state)
    assert not any(name.endswith("in_proj_bias") or ".t5." in name for name in state)


def test_the_codec_has_encodecs_structure() -> None:
    state, config = load(TINY / FILES[1])
    assert config["seanet"]["ratios"] == [8, 5, 4, 4]
    assert any("lstm" in name for name in state)
    assert state["quantizer.vq.layers.3._codebook.embed"].shape[0] == 1_024


def test_a_stereo_checkpoint_has_a_codebook_for_each_side(stereo_checkpoint: Path) -> None:
    _, config = load(stereo_checkpoint / FILES[0])
    assert config["transformer_lm"]["n_q"] == 8
    assert config["codebooks_pattern"]["delay"]["delays"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert config["interleave_stereo_codebooks"] == {"use": True, "per_timestep": False}


def test_its_songs_are_loud_and_hardly_clip() -> None:
    model = load_model(TINY)
    requests = [GenerationRequest("happy guitar and drums", 250, seed=seed) for seed in (1, 2)]
    for result in generate_together(model, dict(enumerate(requests))):
        assert abs(result.audio).max() > 0.05
        assert result.audio.std() < 0.3
        assert (abs(result.audio) >= 1).mean() < 1e-3
