"""Messages between two processes."""

import threading
import time
from multiprocessing import Pipe

from musicgen_engine.channel import Channel

LARGE = bytes(10_000_000)  # which no buffer between two processes takes


def test_it_is_not_closed_in_the_midst_of_a_message() -> None:
    ours, theirs = Pipe()
    channel, other = Channel(ours), Channel(theirs)
    sender = threading.Thread(target=channel.send, args=({"kind": "song"}, LARGE), daemon=True)
    closer = threading.Thread(target=channel.close, daemon=True)
    sender.start()
    assert not other.silent_for(20)
    closer.start()
    time.sleep(0.2)
    assert not ours.closed
    assert other.receive() == ({"kind": "song"}, LARGE)
    closer.join(20)
    assert ours.closed
