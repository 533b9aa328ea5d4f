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
from musicgen_engine.settings import Settings


def main() -> None:
    folder, checkpoint, config, socket = sys.argv[1:]
    settings = Settings.from_environment(os.environ)
    logs.configure(Path(folder).parent.name, settings.log_format)
    for chatty in ("audiocraft", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    server = EngineServer(Channel(Connection(int(socket))), settings)
    server.run(Path(folder), checkpoint or None, ModelConfig(**json.loads(config)))


if __name__ == "__main__":
    main()
