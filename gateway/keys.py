"""What the application carries, by typed key."""

from __future__ import annotations

from aiohttp import web

from gateway.contract import Triton
from gateway.default_model import DefaultModel
from gateway.models import Models
from gateway.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
TRITON: web.AppKey[Triton] = web.AppKey("triton")
MODELS = web.AppKey("models", Models)
DEFAULT_MODEL = web.AppKey("default_model", DefaultModel)
