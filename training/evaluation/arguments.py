"""The command line of the evaluations that judge several songs of each case."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from protocol.request import GenerationRequest


class Arguments(NamedTuple):
    model: LoadedModel
    seeds: int
    guidance: float


def read(case: str, variant: str = "musicgen-tiny") -> Arguments:
    """`case`: the noun for what has `--seeds` songs; `variant`: the model without `--folder`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(f"model_repository/{variant}/1"))
    parser.add_argument("--seeds", type=int, default=5, help=f"songs of each {case}")
    parser.add_argument("--guidance", type=float, default=GenerationRequest.cfg_coef)
    parser.add_argument("--precision", default="auto", help="float32, or int8")
    given = parser.parse_args()
    model = LoadedModel.load(given.folder.resolve(), ModelConfig(precision=given.precision))
    return Arguments(model, given.seeds, given.guidance)
