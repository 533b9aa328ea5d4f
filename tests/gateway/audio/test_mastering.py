"""The fields that shape a file: what they do to a song, what is refused, and the receipt."""

import io
import json
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import soundfile
from aiohttp.test_utils import TestClient
from numpy.typing import NDArray

from gateway.audio.loop import BLEND
from gateway.request import from_form, from_json
from protocol.errors import InvalidField
from tests.gateway.fake_triton import FakeTriton

SONG = {"prompt": "slow piano", "duration": 2.5, "seed": 7}


def body(fields: dict[str, Any]) -> dict[str, Any]:
    """The body of SONG with these fields, and without those that are None."""
    return {name: value for name, value in {**SONG, **fields}.items() if value is not None}


async def generate(client: TestClient, **fields: Any) -> bytes:
    response = await client.post("/generate", json=body(fields))
    assert response.status == 200, await response.text()
    return await response.read()


def samples(file: bytes) -> NDArray[np.float64]:
    audio: NDArray[np.float64] = soundfile.read(io.BytesIO(file))[0]
    return audio


def comment(file: bytes) -> dict[str, Any]:
    """The request that the tags of a file hold."""
    with av.open(io.BytesIO(file)) as opened:
        tags = {**opened.streams[0].metadata, **opened.metadata}
    found: dict[str, Any] = json.loads({name.lower(): tag for name, tag in tags.items()}["comment"])
    return found


@pytest.mark.parametrize("fields", [{"fade_in": 0}, {"fade_out": 0}, {"ending": "cut"}])
async def test_no_fade_leaves_the_song_alone(client: TestClient, fields: Any) -> None:
    assert np.array_equal(
        samples(await generate(client, **fields)), samples(await generate(client))
    )


@pytest.mark.parametrize(
    ("fields", "fade_in", "fade_out"),
    [
        ({"fade_in": 0.5}, 0.5, 0),
        ({"fade_out": 1}, 0, 1),
        ({"fade_in": 1, "fade_out": 1.5}, 1, 1.5),
        ({"ending": "fade"}, 0, 0.25),
        ({"ending": "Fade", "duration": 40}, 0, 3),
    ],
)
async def test_a_song_fades_as_asked(
    client: TestClient, fields: Any, fade_in: float, fade_out: float
) -> None:
    length = {"duration": fields.get("duration", 2.5)}
    whole = samples(await generate(client, **length))
    faded = samples(await generate(client, **fields))
    times = np.arange(len(whole)) / 32_000
    gain = np.ones(len(whole))
    if fade_in:
        gain *= np.sin(np.pi / 2 * np.minimum(times / fade_in, 1)) ** 2
    if fade_out:
        gain *= np.sin(np.pi / 2 * np.minimum(times[::-1] / fade_out, 1)) ** 2
    assert np.abs(faded - whole * gain).max() <= 1 / 32_000
    assert (faded[0] == 0 or not fade_in) and (faded[-1] == 0 or not fade_out)


async def test_only_the_new_part_fades_in(client: TestClient) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.full(32_000, 0.5), 32_000, format="WAV")
    fields = {**SONG, "output": "new", "fade_in": 1, "fade_out": 0.5}

    def form(**more: Any) -> aiohttp.FormData:
        texts = {name: str(value) for name, value in {**fields, **more}.items()}
        form = aiohttp.FormData(texts)
        form.add_field("audio", file.getvalue(), filename="beginning.wav")
        return form

    faded = samples(await (await client.post("/generate", data=form())).read())
    assert len(faded) == 48_000 and faded[0] == faded[-1] == 0 and faded[32_000] > 0
    refused = await client.post("/generate", data=form(fade_in=1.5))
    assert (refused.status, (await refused.json())["error"]["field"]) == (422, "fade_out")


LOOPS: list[tuple[dict[str, Any], int, int, int]] = [  # samples of the loop, before it; frames
    ({"duration": 2.5}, 80_000, 32_000, 175),
    ({"duration": None, "bars": 2, "bpm": 120}, 128_000, 64_000, 300),
    ({"duration": None, "bars": 1, "bpm": 93.5}, 82_139, 82_139, 257),
]


@pytest.mark.parametrize(("fields", "length", "lead", "frames"), LOOPS)
async def test_a_loop_is_a_later_part_of_its_song(
    client: TestClient, triton: FakeTriton, fields: Any, length: int, lead: int, frames: int
) -> None:
    loop = samples(await generate(client, loop=True, **fields))
    assert triton.requests[-1].frames == frames
    song = samples(await generate(client, duration=frames / 50))
    assert len(loop) == length
    assert np.array_equal(loop[:-BLEND], song[lead : lead + length - BLEND])
    assert loop[-1] == pytest.approx(song[lead - 1], abs=1e-4)


async def test_a_loop_of_sections_starts_earlier_in_its_first(
    client: TestClient, triton: FakeTriton
) -> None:
    sections = [{"prompt": "piano", "duration": 1}, {"prompt": "drums", "duration": 2}]
    fields = {"prompt": None, "duration": None, "sections": sections, "loop": True}
    file = await generate(client, **fields)
    assert len(samples(file)) == 96_000
    assert [section.frames for section in triton.requests[-1].timeline] == [100, 100]
    assert comment(file)["sections"] == sections


@pytest.mark.parametrize(
    "fields",
    [
        {"fade_in": 0.5, "fade_out": 1.0},
        {"ending": "fade"},
        {"loop": True},
        {"loop": True, "duration": None, "bars": 2, "bpm": 93.5},
        {"loudness": -14.0, "fade_in": 1.0},
    ],
)
@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg"])
async def test_the_comment_makes_the_file_again(
    client: TestClient, fields: Any, format: str
) -> None:
    file = await generate(client, **fields, format=format)
    assert comment(file).items() >= {name: one for name, one in fields.items() if one}.items()
    response = await client.post("/generate", json={**comment(file), "format": format})
    assert await response.read() == file


BARS = {"duration": None}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fade_in": -1}, "fade_in is -1; give 0 to 3,600."),
    ({"fade_in": "1"}, "fade_in is text; send a number."),
    ({"fade_in": float("nan")}, "fade_in is nan; give 0 to 3,600."),
    ({"fade_in": 3}, "fade_in is 3; give at most 2.5, the length of the file."),
    ({"fade_out": 2.6}, "fade_out takes 2.6 s, fade_in leaves 2.5 s; shorten one."),
    ({"fade_in": 2, "fade_out": 1}, "fade_out takes 1 s, fade_in leaves 0.5 s; shorten one."),
    ({"fade_in": 2.4, "ending": "fade"}, "ending takes 0.25 s, fade_in leaves 0.1 s; shorten one."),
    ({"ending": "fade", "fade_out": 1}, "ending comes with fade_out; send one of them."),
    ({"ending": "cut", "fade_out": 1}, "ending comes with fade_out; send one of them."),
    ({"ending": "slow"}, "ending is 'slow'; give cut, fade."),
    ({"ending": True}, "ending is true or false; send text."),
    ({"loudness": -31}, "loudness is -31; give -30 to -6."),
    ({"loudness": 0}, "loudness is 0; give -30 to -6."),
    ({"loudness": "loud"}, "loudness is text; send a number."),
    (
        {"loudness": -14, "duration": 0.38},
        "loudness needs a file of 0.4 s; make it longer than 0.38.",
    ),
    ({"loop": "yes"}, "loop is text; send true or false."),
    ({"loop": True, "fade_in": 1}, "fade_in comes with loop; send one of them."),
    ({"loop": True, "fade_out": 1}, "fade_out comes with loop; send one of them."),
    ({"loop": True, "ending": "fade"}, "ending comes with loop; send one of them."),
    (
        {"loop": True, "duration": 0.04},
        "duration makes 0.04 s; give at least 0.05, its blend, and at most 299, for its song "
        "starts 1 s earlier.",
    ),
    (
        {"loop": True, "duration": 300},
        "duration makes 300 s; give at least 0.05, its blend, and at most 299, for its song starts "
        "1 s earlier.",
    ),
    (
        {"loop": True, **BARS, "bars": 200, "bpm": 120},
        "bars makes 400 s; give at least 0.05, its blend, and at most 298, for its song starts 2 s "
        "earlier.",
    ),
    (
        {"loop": True, **BARS, "prompt": None, "sections": [{"prompt": "x", "duration": 300}]},
        "sections makes 300 s; give at least 0.05, its blend, and at most 299, for its song starts "
        "1 s earlier.",
    ),
    ({**BARS, "bars": 2, "bpm": 120}, "bars comes without loop; send loop with it, as true."),
    ({"loop": True, **BARS, "bars": 2}, "bars comes without bpm; send both."),
    ({"loop": True, "bpm": 120}, "bpm comes without bars; send both."),
    ({"loop": True, "bars": 2, "bpm": 120}, "duration comes with bars; send one of them."),
    ({"loop": True, **BARS, "bars": 0, "bpm": 120}, "bars is 0; give 1 to 1000."),
    ({"loop": True, **BARS, "bars": 1.5, "bpm": 120}, "bars is 1.5; give a whole number."),
    ({"loop": True, **BARS, "bars": 2, "bpm": 10}, "bpm is 10; give 20 to 400."),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_a_wrong_field_is_refused_with_a_remedy(fields: Any, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        from_json(json.dumps(body(fields)).encode(), 300)
    assert raised.value.message == message
    assert raised.value.field == message.split()[0]


def test_a_loop_that_is_too_long_has_its_limits_in_bars() -> None:
    fields = {"loop": True, **BARS, "bars": 200, "bpm": 110}
    with pytest.raises(InvalidField) as raised:
        from_json(json.dumps(body(fields)).encode(), 300)
    assert raised.value.limits == {"minimum": 1, "maximum": 136}
    from_json(json.dumps(body({**fields, "bars": 136})).encode(), 300)


def test_a_loop_of_an_uploaded_beginning_is_refused() -> None:
    with pytest.raises(InvalidField) as raised:
        from_form({"prompt": "jazz", "audio": bytearray(b"file"), "loop": "true"}, 300)
    assert raised.value.message == "audio comes with loop; send one of them."
