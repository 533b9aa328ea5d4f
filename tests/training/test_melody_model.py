"""musicgen-tiny-melody begins as musicgen-tiny with a layer that points to the melody."""

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.musicgen_engine.conftest import TINY as START
from training import melody_model, quantizer
from training.language_model import encode_texts
from training.melody_model import COLUMNS, POINTERS, draw_batch, logits, near_changes
from training.structure import TINY, TINY_MELODY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def codebooks() -> Tensor:
    return torch.randn(4, TINY_MELODY.vocab_size, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory, codebooks: Tensor) -> Any:
    folder = tmp_path_factory.mktemp("lm")
    shutil.copytree(START / TINY.text_encoder, folder / TINY.text_encoder)
    return melody_model.build(START, folder, codebooks, CPU).eval()


@pytest.fixture(scope="module")
def start() -> Any:
    return torch.load(START / "state_dict.bin", weights_only=True)["best_state"]


def test_each_head_of_the_first_layer_attends_to_its_column(lm: Any) -> None:
    layer, rope = lm.transformer.layers[0], lm.transformer.rope
    rope.rotation = None
    x = torch.randn(1, COLUMNS + 200, TINY_MELODY.dim, generator=torch.Generator().manual_seed(0))
    q, k, _ = torch.chunk(layer.norm1(x) @ layer.self_attn.in_proj_weight.T, 3, dim=-1)
    split = [part.view(1, x.shape[1], TINY_MELODY.heads, -1) for part in (q, k)]
    queries, keys = rope.rotate_qk(*split)
    code = 150  # a step; its prediction is frame 149 of the lead's first codebook
    scores = (queries[0, COLUMNS + code][:, None] * keys[0].transpose(0, 1)).sum(-1)
    best = scores[:, : COLUMNS + code + 1].argmax(-1)
    for column, pointer in zip(best.tolist(), POINTERS, strict=True):
        assert abs(column - (code - 1 + pointer)) <= 1


def test_old_codes_keep_their_weights_and_new_ones_take_the_nearests(
    lm: Any, start: Any, codebooks: Tensor
) -> None:
    old = TINY.vocab_size
    for k in range(4):
        before, after = start[f"emb.{k}.weight"].float(), lm.emb[k].weight
        assert torch.equal(after[:old], before[:old]) and torch.equal(after[-1], before[-1])
        nearest = torch.cdist(codebooks[k, old:], codebooks[k, :old]).argmin(1)
        assert torch.equal(after[old:-1], before[nearest])
    assert torch.equal(
        lm.transformer.layers[1].linear1.weight,
        start["transformer.layers.0.linear1.weight"].float(),
    )


def test_all_columns_give_audiocrafts_logits(lm: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    chroma = torch.randint(12, (1, COLUMNS), generator=generator)
    inputs = torch.randint(TINY_MELODY.vocab_size, (1, 4, 20), generator=generator)
    with torch.inference_mode():
        ours = logits(lm, inputs, ["piano"], chroma)
        text = encode_texts(lm, ["piano"])["description"][0]
        prefix = lm.melody(torch.nn.functional.one_hot(chroma, 12).float())
        lm.transformer.rope.rotation = None  # audiocraft's own positions
        codes = sum(emb(inputs[:, k]) for k, emb in enumerate(lm.emb))
        hidden = lm.transformer(torch.cat([prefix, codes], 1), cross_attention_src=text)
        theirs = torch.stack([head(lm.out_norm(hidden[:, COLUMNS:])) for head in lm.linears], 1)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_a_batch_has_the_chroma_of_its_excerpts() -> None:
    frame = torch.arange(1_800)
    codes = frame.expand(3, 4, -1).short()
    chroma = (torch.arange(1_801) % 12).expand(3, -1)
    batch = draw_batch(codes, chroma, 40, 250, 290, Random(0))
    lead = batch.excerpts[:, 1]
    assert torch.equal(batch.chroma[:, :250], lead % 12) and batch.chroma.shape == (40, 290)


def test_frames_near_a_change_of_the_pitch_class_are_marked() -> None:
    chroma = torch.tensor([5] * 10 + [7] * 10)
    assert near_changes(chroma).nonzero()[:, 0].tolist() == list(range(7, 14))


def test_more_codes_leave_the_old_ones_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    books = torch.randn(4, 16, 4, generator=generator)
    lead = torch.randn(200, 4, generator=generator)
    extended = quantizer.extend(books, {"lead": lead}, 24)
    assert torch.equal(extended[:, :16], books) and extended.shape == (4, 24, 4)
    assert extended[1:3, 16:].any(-1).all() and not extended[0, 16:].any()
    assert not extended[3, 16:].any()


def test_the_codec_in_a_checkpoint_yields_its_transform() -> None:
    from audiocraft.models import loaders

    from training import codec

    tiny = loaders.load_compression_model(str(START), device="cpu").eval()
    audio = 0.05 * torch.randn(640 * 20, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        encoded = tiny.encoder(audio[None, None])[0].T
    ours = codec.transform_of(tiny)(audio)
    assert (ours - encoded).norm() < 0.02 * encoded.norm()


def test_the_bundle_is_smaller_than_20_mb() -> None:
    folder: Path = START.parents[1] / "musicgen-tiny-melody"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20e6
