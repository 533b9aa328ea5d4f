"""Which checkpoints are supported, and how an error names what is not."""

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.hub import CODEC, LM, fetch
from protocol.errors import EngineUnavailable, WeightsMissing
from tests.conftest import ROOT
from tests.musicgen_engine.conftest import load


def test_the_window_is_that_of_the_training(tiny: LoadedModel) -> None:
    assert tiny.pattern.window == 1500


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"best_state": Trap(tmp_path / "ran"), "xp.cfg": ""}, tmp_path / "state_dict.bin")
    with pytest.raises(EngineUnavailable, match=r"state_dict.bin holds more than weights"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", [LM, CODEC])
@pytest.mark.parametrize("content", [{"weight": torch.zeros(3)}, torch.zeros(3)], ids=type)
def test_a_file_of_another_kind_is_named(
    tiny_checkpoint: Path, tmp_path: Path, file: str, content: object
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    torch.save(content, tmp_path / file)
    with pytest.raises(EngineUnavailable, match=f": {file} is not one that audiocraft"):
        load(tmp_path)


@pytest.mark.parametrize("file", [LM, CODEC])
def test_a_file_in_the_format_of_old_versions_is_named(
    tiny_checkpoint: Path, tmp_path: Path, file: str
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    package = torch.load(tmp_path / file, weights_only=True)
    torch.save(package, tmp_path / file, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsMissing, match=f" {file} is in the format of PyTorch before 1.6, "):
        fetch(tmp_path, lambda done, total: None)


@pytest.mark.parametrize("file", [LM, CODEC])
@pytest.mark.parametrize("length", [0, 1, 5_000, -1])
def test_a_file_that_is_cut_short_is_named(
    tiny_checkpoint: Path, tmp_path: Path, file: str, length: int
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_bytes((tiny_checkpoint / file).read_bytes()[:length])
    with pytest.raises(WeightsMissing, match=f" {file} is not a file that PyTorch saved, or only"):
        fetch(tmp_path, lambda done, total: None)


Change = Callable[[Any, dict[str, torch.Tensor]], None]  # of the configuration and the weights


def changed(checkpoint: Path, folder: Path, file: str, change: Change) -> Path:
    """A copy of the checkpoint with another `file`."""
    from omegaconf import OmegaConf

    for path in checkpoint.iterdir():
        if path.name != file:
            (folder / path.name).symlink_to(path)
    package = torch.load(checkpoint / file, weights_only=True)
    config = OmegaConf.create(package["xp.cfg"])
    change(config, package["best_state"])
    torch.save({**package, "xp.cfg": OmegaConf.to_yaml(config)}, folder / file)
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [(LM, "transformer.layers.1.linear1.weight"), (CODEC, "decoder.model.1.lstm.weight_hh_l0")],
)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named_at_load(
    tiny_checkpoint: Path, tmp_path: Path, file: str, name: str, number: float
) -> None:
    def damage(_: Any, weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[7] = number

    folder = changed(tiny_checkpoint, tmp_path, file, damage)
    message = f"{file} is damaged: {name} holds numbers that are not finite"
    with pytest.raises(EngineUnavailable, match=message):
        load(folder)


def test_a_text_encoder_that_is_not_finite_is_named_at_load(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "t5-small" / "model.safetensors"
    weights = load_file(file)
    weights["shared.weight"][3, 3] = math.nan
    file.unlink()
    save_file(weights, file, {"format": "pt"})
    message = "the text encoder is damaged: shared.weight holds numbers that are not finite"
    with pytest.raises(EngineUnavailable, match=message):
        load(tmp_path)


def with_biases(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.transformer_lm.bias_ff = True
    for layer in range(config.transformer_lm.num_layers):
        for linear, width in (("linear1", 256), ("linear2", 64)):
            weights[f"transformer.layers.{layer}.{linear}.bias"] = torch.zeros(width)


def with_position_in_the_text(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.fuser.cross_attention_pos_emb = True


def flattened(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.codebooks_pattern.delay.flatten_first = 1


def short(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.dataset.segment_duration = 10


def of_a_style(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.conditioners.self_wav = {"model": "style"}


def with_both_positions(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.transformer_lm.positional_embedding = "sin_rope"


def with_fading_positions(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.transformer_lm.positional_embedding = "rope"
    config.transformer_lm.xpos = True


def looking_ahead(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.transformer_lm.causal = False


def normalised_behind(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.transformer_lm.norm_first = False
    del weights["out_norm.weight"], weights["out_norm.bias"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_biases, "biases"),
        (with_position_in_the_text, "its text has positions"),
        (of_a_style, "self_wav"),
        (with_both_positions, "sin_rope"),
        (with_fading_positions, "fade"),
        (looking_ahead, "causal"),
        (flattened, "pattern"),
        (short, "18 s"),
        (normalised_behind, "behind the layers"),
    ],
)
def test_an_unsupported_transformer_is_named_at_load(
    tiny_checkpoint: Path, tmp_path: Path, change: Change, complaint: str
) -> None:
    with pytest.raises(EngineUnavailable, match=complaint):
        load(changed(tiny_checkpoint, tmp_path, "state_dict.bin", change))


def with_summed_melody(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.fuser.prepend, config.fuser.sum = ["description"], ["self_wav"]


def in_two_steps(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.transformer_lm.two_step_cfg = True


def with_quarter_tones(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.conditioners.self_wav.chroma_stem.n_chroma = 24


def with_a_class_to_call(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.conditioners.self_wav.chroma_stem._target_ = "subprocess.Popen"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (with_summed_melody, "does not stand before its codes"),
        (in_two_steps, "two steps"),
        (with_quarter_tones, "n_chroma"),
        (with_a_class_to_call, "_target_"),
    ],
)
def test_an_unsupported_melody_model_is_named_at_load(
    melody_checkpoint: Path, tmp_path: Path, change: Change, complaint: str
) -> None:
    with pytest.raises(EngineUnavailable, match=complaint):
        load(changed(melody_checkpoint, tmp_path, "state_dict.bin", change))


def test_a_melody_model_loads_without_a_separator(melody_checkpoint: Path) -> None:
    """The separator that audiocraft instantiates with the model is never imported."""
    code = f"""
import sys
sys.modules["demucs"] = None  # as if it were not installed
from pathlib import Path
from tests.musicgen_engine.conftest import load
assert load(Path({str(melody_checkpoint)!r})).melody.columns == 235
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def causal(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.encodec.causal = True
    config.seanet.causal = True


def with_fewer_codes(config: Any, weights: dict[str, torch.Tensor]) -> None:
    config.rvq.bins = 1024
    for name in [name for name in weights if name.endswith(("._codebook.embed", ".embed_avg"))]:
        weights[name] = weights[name][:1024]
    for name in [name for name in weights if name.endswith(".cluster_size")]:
        weights[name] = weights[name][:1024]


@pytest.mark.parametrize(
    ("change", "complaint"), [(with_fewer_codes, "other codebooks"), (causal, "causal")]
)
def test_an_unsupported_codec_is_named_at_load(
    tiny_checkpoint: Path, tmp_path: Path, change: Change, complaint: str
) -> None:
    with pytest.raises(EngineUnavailable, match=complaint):
        load(changed(tiny_checkpoint, tmp_path, "compression_state_dict.bin", change))
