"""Imports audiocraft without the libraries that MusicGen never calls.

audiocraft and transformers import much more than a MusicGen checkpoint needs: three quarters of the
time that an engine took to start. Import audiocraft, and build its models, like this:

    with light_imports():
        from audiocraft.models import loaders

Inside, each module in PUT_OFF is a stand-in, and transformers takes what UNAVAILABLE names for not
installed. Afterwards `sys.modules` holds no stand-in. A name that audiocraft took from one imports
the real module when it is first called or read, so all of audiocraft still works; it only starts
later.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# Modules that audiocraft and transformers import, and what calls them.
PUT_OFF = (
    "audiocraft.solvers.compression",  # training and MultiBandDiffusion
    "av",  # reading audio files
    "dora",  # training: the folders of experiments
    "flashy",  # training: distributed helpers
    "flashy.distrib",
    "librosa",  # the chroma filters of the melody conditioner
    "num2words",  # normalising text, which MusicGen's configurations turn off
    "spacy",  # the same
    "torch._dynamo._trace_wrapped_higher_order_op",  # attention masks of a compiled model
    "xformers",  # attention in audiocraft's own decoder, for which the engine has another
    "xformers.ops",
)
# Attention in audiocraft's own decoder: it warns that it is not there.
logging.getLogger("xformers").setLevel(logging.ERROR)
# Libraries that transformers looks for, and imports when they are there. It works without them.
UNAVAILABLE = (
    "is_scipy_available",  # losses of object detection
    "is_sklearn_available",  # speculative decoding
    "is_torch_distributed_available",  # models on several devices
    "is_torch_flex_attn_available",  # another attention
)


@contextmanager
def light_imports() -> Iterator[None]:
    """See above. For one thread: a module that another one imports meanwhile may get a stand-in."""
    make_torchaudio_importable()
    import transformers.utils

    # One that is imported already costs nothing.
    stand_ins = {name: _StandIn(name) for name in PUT_OFF if name not in sys.modules}
    questions = (transformers.utils, transformers.utils.import_utils)
    answers = [vars(module).copy() for module in questions]
    if "torch._dynamo" not in sys.modules:
        stand_ins["torch._dynamo"] = _Compiler("torch._dynamo")
    sys.modules.update(stand_ins)
    for module in questions:
        vars(module).update(dict.fromkeys(UNAVAILABLE, _no))
    try:
        with warnings.catch_warnings():  # about each other's versions and about training
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, answer in zip(questions, answers, strict=True):
            vars(module).update({name: answer[name] for name in UNAVAILABLE})
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


class _StandIn(ModuleType):
    """In place of a module: every name of it can be imported, none is looked up yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # so that `find_spec` says it is there

    def __getattr__(self, name: str) -> _Name:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(self.__name__, name)


class _Compiler(_StandIn):
    """In place of torch's compiler, with which torch and transformers mark functions: here these
    stay as they are, for nothing is compiled."""

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        return function or (lambda function: function)

    @staticmethod
    def allow_in_graph(function: Any) -> Any:
        return function

    assume_constant_result = allow_in_graph


class _Name:
    """In place of a module's class, function or submodule, until it is called or read."""

    def __init__(self, module: str, name: str) -> None:
        self._path = (module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        module, name = self._path
        real = __import__(module, fromlist=[name])  # as `from module import name` does
        if isinstance(real, _StandIn):
            raise ImportError(f"{module}.{name} is used at once: {module} cannot be put off")
        return getattr(real, name)


def _no() -> bool:
    return False


def make_torchaudio_importable() -> None:
    """Lets `import torchaudio` succeed beside a torch without CUDA, before its first import.

    The wheel of torchaudio on PyPI links CUDA's libraries, so its native extension cannot be loaded
    where torch is built for the CPU, and then the whole import fails. torchaudio runs without that
    extension when the file is not there, and MusicGen needs nothing of it.
    """
    name = "torchaudio._extension.utils"
    package = find_spec("torchaudio")
    if "torchaudio" in sys.modules or package is None or package.origin is None:
        return
    spec = spec_from_file_location(name, Path(package.origin).parent / "_extension" / "utils.py")
    if spec is None or spec.loader is None:
        return
    utils = module_from_spec(spec)
    spec.loader.exec_module(utils)
    load: Callable[[str], bool] = utils._load_lib

    def load_or_do_without(library: str) -> bool:
        try:
            return load(library)
        except OSError:
            return False

    utils._load_lib = load_or_do_without  # type: ignore[attr-defined]
    sys.modules[name] = utils
