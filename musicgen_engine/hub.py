"""Finds a checkpoint's files, and downloads the missing ones. No torch: stubs import this, too.

A checkpoint is two files in audiocraft's format. They name what else the model needs: a T5 for the
text, and the codec where the second file does not hold it. These come from the hub's cache, unless
a folder with the text encoder's name lies beside the checkpoint.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import pickletools
import queue
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from protocol.errors import WeightsMissing

Checkpoint = Path | str  # a local folder, or a repository of the hub
OnProgress = Callable[[int, int | None], None]  # bytes so far, of all bytes known of

LM, CODEC = "state_dict.bin", "compression_state_dict.bin"
# The text encoder and the codec in transformers' format; safetensors, for pickles can run code.
T5_FILES = ("config.json", "tokenizer.json", "model.safetensors")
ENCODEC_FILES = ("config.json", "model.safetensors")
HUB_TIMEOUT = 6.0  # seconds; a hub that does not answer within them is out of reach
ABANDONED = 3_600.0  # seconds without a write; an older partial download was killed

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_COPY = (
    "copy the files into the caches that AUDIOCRAFT_CACHE_DIR and HF_HOME name; then load the "
    "model again."
)
_REMEDY = f"Connect this machine to the internet, or name a mirror in HF_ENDPOINT, or {_COPY}"
_OTHER_FOLDERS = "name other folders in AUDIOCRAFT_CACHE_DIR and HF_HOME."


@dataclass(frozen=True)
class HubFile:
    repo: str
    name: str
    cache: str | None = None  # folder; None is the hub client's own

    @property
    def path(self) -> Path | None:
        """The file in the cache; None when it is not there. Raises WeightsMissing for a name that
        no repository of the hub can have."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(self.repo, self.name, cache_dir=self.cache)
        except HFValidationError:
            raise WeightsMissing(
                f"{self.repo!r} cannot be a repository of the Hugging Face hub. Correct the name, "
                "or make the folder that it means."
            ) from None
        return Path(found) if isinstance(found, str) else None

    def sweep(self) -> None:
        """Remove what killed downloads left; the hub client never continues them."""
        from huggingface_hub.constants import HF_HUB_CACHE

        repo = Path(self.cache or HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}"
        for part in repo.glob("blobs/*.incomplete"):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink(missing_ok=True)


SEPARATOR = HubFile("adefossez/HTDemucs", "955717e8.safetensors")  # htdemucs of demucs 4.1


def resolve(checkpoint: str | None, version_folder: Path) -> Checkpoint:
    """The checkpoint that a model's parameter names.

    None is the version folder itself. The path of a folder (absolute, or relative to the version
    folder) is that folder. Any other name is a repository of the hub.
    """
    folder = version_folder / (checkpoint or "")
    if checkpoint is None or folder.is_dir() or not _HUB_ID.fullmatch(checkpoint):
        return folder
    return checkpoint


def revision(folder: Path) -> str:
    """The revision of a checkpoint's weights, 12 hexadecimal digits: other weights have another.

    It is a hash of the checksums in the files' zip directories, so gigabytes need not be read; and
    of the separator, if the model takes melodies and it is here.
    """
    digest = hashlib.sha256()
    for name in (LM, CODEC):
        with zipfile.ZipFile(folder / name) as archive:
            for part in archive.infolist():
                digest.update(f"{part.filename} {part.CRC:08x}\n".encode())
    if separator := separator_weights(folder):
        digest.update(separator.read_bytes())
    return digest.hexdigest()[:12]


def is_cached(checkpoint: Checkpoint) -> Literal["bundled", "cached", "missing"]:
    """Whether the model can be loaded without network: from its own folder or from the cache."""
    try:
        folder = _folder(checkpoint)
        if folder is None or any(file.path is None for file in _companions(folder)):
            return "missing"
    except (WeightsMissing, OSError):  # broken or unreadable
        return "missing"
    return "bundled" if isinstance(checkpoint, Path) else "cached"


def fetch(checkpoint: Checkpoint, on_progress: OnProgress) -> Path:
    """Download the missing files; return the folder with the checkpoint's two.

    It needs no network when nothing is missing. Complete files are kept, so a download that broke
    off continues with the file in which it broke off.

    Args:
        on_progress: gets the bytes downloaded, and the size of all files known to be missing. That
            size grows when the checkpoint, once it is here, turns out to need more. It is not
            called when nothing is missing.

    Raises:
        WeightsMissing: it says what is missing, why, and what to do about it.
    """
    download = _Download(on_progress)
    if isinstance(checkpoint, str):
        download.files(list(_checkpoint_files(checkpoint)))
    folder = _folder(checkpoint)
    if folder is None:
        raise WeightsMissing(
            f"The checkpoint lacks {LM} or {CODEC}. Put both, in audiocraft's format, into the "
            "folder that the model's config.pbtxt names as its checkpoint."
        )
    download.files(list(_companions(folder)))
    return folder


def separator_weights(folder: Path) -> Path | None:
    """The weights of the separator, for a model that takes melodies; None if they are not here."""
    return next((file.path for file in _separator(folder)), None)


def fetch_separator(folder: Path, on_progress: OnProgress) -> None:
    """Download the separator for the checkpoint in `folder`, if that takes melodies. Otherwise as
    `fetch`."""
    _Download(on_progress).files(list(_separator(folder)))


class _Download:
    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._bytes = 0
        self._total: int | None = 0

    def files(self, files: list[HubFile]) -> None:
        """Download the missing ones. Raises WeightsMissing."""
        missing = [file for file in files if file.path is None]
        if not missing:
            return
        from huggingface_hub import hf_hub_download

        try:
            for size in _sizes(missing):
                self._total = None if size is None or self._total is None else self._total + size
            self._advance(0)
            bar = _bar(self._advance)
            for file in missing:
                file.sweep()
                hf_hub_download(file.repo, file.name, cache_dir=file.cache, tqdm_class=bar)
        except Exception as error:  # the client's errors have no common base
            names = " and ".join(dict.fromkeys(file.repo for file in missing))
            raise WeightsMissing(f"The weights of {names} are not here: {_why(error)}") from error

    def _advance(self, count: int) -> None:
        self._bytes += count
        self._on_progress(self._bytes, self._total)


def _sizes(files: list[HubFile]) -> list[int | None]:
    """The files' sizes in bytes, from the hub; this also shows whether the hub can be reached.

    The client's timeouts bound each step of a request, but neither the look-up of the hub's address
    nor all retries together: so a thread asks, and is left behind when it takes too long.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    answers: queue.Queue[list[int | None] | Exception] = queue.Queue()

    def ask() -> None:
        try:
            urls = [hf_hub_url(file.repo, file.name) for file in files]
            answers.put([get_hf_file_metadata(url, timeout=HUB_TIMEOUT).size for url in urls])
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=HUB_TIMEOUT)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _bar(advance: Callable[[int], None]) -> type:
    """A progress bar for the hub client that shows nothing and passes the numbers on."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            advance(int(n or 0))

        def update_transfer(self, n: float) -> None:
            """The hub's other protocol, Xet, counts the same bytes a second time here."""

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None: ...

    return Bar


def _why(error: Exception) -> str:
    """The reason and the remedy, without other libraries' texts: they hold paths and keys."""
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    hub = f"{(url := urlsplit(ENDPOINT)).scheme}://{url.netloc.rpartition('@')[2]}"

    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE forbids the download. Unset it, or {_COPY}"
    if isinstance(error, errors.EntryNotFoundError) and isinstance(error, errors.HfHubHTTPError):
        return (
            "the repository lacks a file that is needed. Check that it is a MusicGen in "
            "audiocraft's format."
        )
    if isinstance(error, errors.GatedRepoError):
        return "the repository is gated. Ask for access on the hub and set HF_TOKEN to a token."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub at {hub} has no such repository, or it is private. Check its name, or set "
            "HF_TOKEN to a token that may read it."
        )
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub at {hub} answers with status {error.response.status_code}. {_REMEDY}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full. Free space, or {_OTHER_FOLDERS}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"the cache cannot be written ({error.strerror}). Mend that, or {_OTHER_FOLDERS}"
    return f"the hub at {hub} cannot be reached: {_cause(error)}. {_REMEDY}"


def _cause(error: BaseException | None) -> str:
    """The system's words for what is behind an error of the client."""
    while error:
        if isinstance(error, TimeoutError):
            return f"no answer within {HUB_TIMEOUT:g} s"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return "the connection broke off"


def _checkpoint_files(repo: str) -> Iterator[HubFile]:
    cache = os.environ.get("AUDIOCRAFT_CACHE_DIR") or None  # as audiocraft does
    return (HubFile(repo, name, cache) for name in (LM, CODEC))


def _folder(checkpoint: Checkpoint) -> Path | None:
    """The folder that holds both files; None where there is none."""
    if isinstance(checkpoint, Path):
        return checkpoint if all((checkpoint / name).is_file() for name in (LM, CODEC)) else None
    lm, codec = (file.path for file in _checkpoint_files(checkpoint))
    return lm.parent if lm and codec and lm.parent == codec.parent else None


def _companions(folder: Path) -> Iterator[HubFile]:
    """The other files that the checkpoint needs; transformers gets them from the hub's cache."""
    config = _strings(folder / LM).get("xp.cfg", "")
    for name in re.findall(r"^ +name: ((?:google/flan-)?t5-\w+)$", config, re.MULTILINE):
        if not (folder / name).is_dir():
            yield from (HubFile(name, file) for file in T5_FILES)
    codec = _strings(folder / CODEC).get("pretrained")
    if codec:
        yield from (HubFile(codec, file) for file in ENCODEC_FILES)


def _separator(folder: Path) -> Iterator[HubFile]:
    if re.search(r"^ +model: chroma_stem$", _strings(folder / LM).get("xp.cfg", ""), re.MULTILINE):
        yield SEPARATOR


def _strings(file: Path) -> dict[str, str]:
    """The texts among the top-level values of a file that torch.save wrote."""
    return _strings_at(file.resolve(), file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _strings_at(file: Path, _modified: int) -> dict[str, str]:
    # This reads the pickle's operations and runs none of them. It needs no torch.
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            texts = [
                text
                for _, text, _ in pickletools.genops(archive.read(name))
                if isinstance(text, str)
            ]
    except OSError as error:
        raise WeightsMissing(
            f"{file.name} cannot be read ({error.strerror}). Give it to the user that the service "
            "runs as."
        ) from error
    except Exception:  # a damaged file fails anywhere
        raise WeightsMissing(f"{file.name} is {_fault(file)}") from None
    keys = ("xp.cfg", "pretrained")
    return {key: value for key, value in pairwise(texts) if key in keys}


def _fault(file: Path) -> str:
    """Why the file is not one that torch.save writes, and the remedy."""
    with file.open("rb") as start:
        if start.read(1) == pickle.PROTO:
            return (
                "in the format of PyTorch before 1.6, which can run code. Where you trust it, read "
                "it with torch.load and write it with torch.save of a newer PyTorch."
            )
    return "not a file that PyTorch saved, or only a part of one. Get it again."
