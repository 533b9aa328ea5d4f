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

from gateway.request import from_json
from protocol.errors import InvalidField

SONG = {"prompt": "slow piano", "duration": 2.5, "seed": 7}


async def generate(client: TestClient, **fields: Any) -> bytes:
    response = await client.post("/generate", json={**SONG, **fields})
    assert response.status == 200, await response.text()
    return await response.read()


def samples(file: bytes) -> NDArray[np.float64]:
    return soundfile.read(io.BytesIO(file))[0]  # type: ignore[no-any-return]


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


@pytest.mark.parametrize("fields", [{"fade_in": 0.5, "fade_out": 1.0}, {"ending": "fade"}])
@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg"])
async def test_the_comment_makes_the_file_again(
    client: TestClient, fields: Any, format: str
) -> None:
    file = await generate(client, **fields, format=format)
    assert comment(file).items() >= fields.items()
    assert await generate(client, **comment(file), format=format) == file


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fade_in": -1}, "fade_in is -1; give 0 to 3600."),
    ({"fade_in": "1"}, "fade_in is text; send a number."),
    ({"fade_in": float("nan")}, "fade_in is nan; give 0 to 3600."),
    ({"fade_in": 3}, "fade_in is 3; give at most 2.5, the length of the file."),
    ({"fade_out": 2.6}, "fade_out takes 2.6 s, fade_in leaves 2.5 s; shorten one."),
    ({"fade_in": 2, "fade_out": 1}, "fade_out takes 1 s, fade_in leaves 0.5 s; shorten one."),
    ({"fade_in": 2.4, "ending": "fade"}, "ending takes 0.25 s, fade_in leaves 0.1 s; shorten one."),
    ({"ending": "fade", "fade_out": 1}, "ending comes with fade_out; send one of them."),
    ({"ending": "cut", "fade_out": 1}, "ending comes with fade_out; send one of them."),
    ({"ending": "slow"}, "ending is 'slow'; give cut, fade."),
    ({"ending": True}, "ending is true or false; send text."),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_a_wrong_field_is_refused_with_a_remedy(fields: Any, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        from_json(json.dumps({**SONG, **fields}).encode(), 300)
    assert raised.value.message == message
    assert raised.value.field == message.split()[0]
