"""The engine process of one variant.

python -m musicgen_engine.core FOLDER CHECKPOINT CONFIG SOCKET
"""

from __future__ import annotations

import json
import logging
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from musicgen_engine import logs
from musicgen_engine.channel import Channel
from musicgen_engine.config import ModelConfig
from musicgen_engine.core.server import EngineServer
from musicgen_engine.settings import EngineSettings


def main(arguments: list[str], socket: int) -> None:
    """Run the engine; `socket` is its end of the channel, a file descriptor."""
    folder, checkpoint, config = arguments
    model = Path(folder).parent.name
    Path("/proc/self/comm").write_text(model[:15])  # ps shows it; a fork has no command line
    settings = EngineSettings.from_environment(os.environ)
    logs.configure(model, settings.log_format)
    for chatty in ("audiocraft", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    server = EngineServer(Channel(Connection(socket)), settings)
    server.run(Path(folder), checkpoint or None, ModelConfig(**json.loads(config)))


if __name__ == "__main__":
    main(sys.argv[1:-1], int(sys.argv[-1]))
