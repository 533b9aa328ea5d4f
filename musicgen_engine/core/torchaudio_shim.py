"""Lets `import torchaudio` succeed beside a torch without CUDA.

torchaudio's wheel on PyPI links CUDA's libraries, so its native extension cannot be loaded where
torch is built for the CPU, and then the whole import fails. torchaudio itself runs without that
extension when the file is not there; nothing that MusicGen uses needs it.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def install() -> None:
    """Treats an extension that cannot be loaded as one that is not there.

    Call before the first import of torchaudio; does nothing where torchaudio is already imported.
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
