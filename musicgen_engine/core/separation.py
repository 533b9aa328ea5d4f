"""Takes melodies out of their mixes, before the engines encode them."""

from __future__ import annotations

import logging
import time

from musicgen_engine.core.engine import FAILED
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.logs import about
from protocol.errors import GenerationFailed, ServiceError

log = logging.getLogger("engine")


def separate(queue: Queue, model: LoadedModel) -> None:
    """Wait for a sequence of the queue with a melody in a mix, and take one window's melody out. It
    is for a thread of its own."""
    sequence, number = queue.next_to_separate()
    request, start = sequence.request, time.monotonic()
    try:
        sequence.check(model.check)
        encoder, window = model.melody, model.pattern.window
        assert encoder
        [(_, part)] = encoder.parts(request, window, [number])
        melody = model.separator.separate(part, lambda: not sequence.ended)
    except ServiceError as error:
        queue.abort(sequence, error)
    except Exception:
        log.exception("the separation failed", extra=about(sequence.request_id))
        queue.abort(sequence, GenerationFailed(FAILED))
    else:
        queue.separated(sequence, number, melody, time.monotonic() - start)
