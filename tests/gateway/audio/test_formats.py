"""Every format, read back by libsndfile and FFmpeg."""

import io
import json
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gateway.audio.formats import FORMATS, preferred
from gateway.audio.reader import decode
from gateway.audio.receipt import tags
from gateway.audio.wav import pcm
from protocol.request import GenerationRequest
from protocol.variant import Variant

SECONDS = 3
REQUEST = GenerationRequest("slow piano,\n à la Satie", SECONDS * 50, seed=7, top_k=100)
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
TINY = Variant("musicgen-tiny", None, "MIT", "bundled")


def tone(channels: int) -> NDArray[np.float32]:
    times = np.arange(SECONDS * 32_000) / 32_000
    tones = [0.5 * np.sin(2 * np.pi * 440 * (1 + channel) * times) for channel in range(channels)]
    return np.array(tones, np.float32)


def encoded(format: str, audio: NDArray[np.float32]) -> list[bytes]:
    """The file in parts: its beginning, each second, its end."""
    channels, samples = audio.shape
    file = FORMATS[format](channels, 32_000, samples, tags(TINY, REQUEST, "0123456789ab", {}))
    seconds = np.split(audio, SECONDS, axis=1)
    return [file.begin(), *(file.encode(second) for second in seconds), file.end()]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", FORMATS)
def test_libsndfile_reads_the_song(format: str, channels: int) -> None:
    audio, sample_rate = tone(channels), 48_000 if format == "ogg" else 32_000
    decoded, rate = soundfile.read(io.BytesIO(b"".join(encoded(format, audio))), always_2d=True)
    assert rate == sample_rate and decoded.shape[1] == channels
    assert decoded.shape[0] == SECONDS * rate
    spectra = np.abs(np.fft.rfft(decoded[rate : 2 * rate], axis=0))
    assert spectra.argmax(axis=0).tolist() == [440 * (1 + channel) for channel in range(channels)]
    assert np.abs(decoded[rate : 2 * rate]).max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_has_the_samples_of_wav(channels: int) -> None:
    audio = tone(channels)
    data = b"".join(encoded("flac", audio))
    decoded, _ = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert np.array_equal(decoded, pcm(audio))
    assert soundfile.info(io.BytesIO(data)).frames == SECONDS * 32_000


@pytest.mark.parametrize("samples", [640, 1_152, 32_000, 33_280])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_has_the_length_of_the_song(channels: int, samples: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, samples + 7))
    audio = np.array([np.convolve(one, np.hanning(8) / 4, "valid") for one in noise], np.float32)
    file = FORMATS["mp3"](channels, 32_000, samples, {})
    data = file.begin() + file.encode(audio) + file.end()
    by_mpg123, _ = soundfile.read(io.BytesIO(data), always_2d=True)
    by_ffmpeg = decode(data).samples
    assert by_mpg123.T.shape == by_ffmpeg.shape == (channels, samples)
    for decoded in (by_mpg123.T, by_ffmpeg):
        likeness = [np.sum(decoded * np.roll(audio, delay)) for delay in range(-3, 4)]
        assert np.argmax(likeness) == 3  # no delay


@pytest.mark.parametrize("format", FORMATS)
def test_each_slice_is_written_at_once(format: str) -> None:
    _, *seconds, end = encoded(format, tone(1))
    assert all(len(second) > 5_000 for second in seconds)
    assert len(end) < 12_000


@pytest.mark.parametrize("format", FORMATS)
def test_the_tags_say_how_to_generate_the_song_again(format: str) -> None:
    with av.open(io.BytesIO(b"".join(encoded(format, tone(1))))) as file:
        found = {**file.streams[0].metadata, **file.metadata}
    found = {name.lower(): text for name, text in found.items()}
    assert found["title"] == "slow piano, à la Satie"
    assert found["artist"] == "musicgen-tiny"
    assert found["copyright"] == "weights: MIT"
    assert "AudioCraft Service 1" in found["encoder" if format in ("wav", "mp3") else "software"]
    assert json.loads(found["comment"]).items() >= {
        "model": "musicgen-tiny", "prompt": REQUEST.prompt, "duration": 3.0, "seed": 7,
        "temperature": 1.0, "top_k": 100, "top_p": 0.0, "cfg_coef": 3.0, "extend_stride": 18.0,
    }.items()  # fmt: skip
    assert found["irev" if format == "wav" else "revision"] == "0123456789ab"


def test_the_comment_of_mp3_is_the_one_that_players_show() -> None:
    assert b"COMM" in encoded("mp3", tone(1))[0]


@pytest.mark.parametrize("format", FORMATS)
def test_the_tags_say_that_a_machine_made_the_song(format: str) -> None:
    with av.open(io.BytesIO(b"".join(encoded(format, tone(1))))) as file:
        found = {**file.streams[0].metadata, **file.metadata}
    assert found["ISRF" if format == "wav" else "digitalsourcetype"] == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_xmp_says_that_a_machine_made_the_song(format: str) -> None:
    """Adobe's places for XMP: the chunk _PMX in a WAV, the frame PRIV in an MP3."""
    data = b"".join(encoded(format, tone(1)))
    place = data[data.index(b"_PMX" if format == "wav" else b"PRIV") :]
    packet = place[place.index(b"<x:xmpmeta") : place.index(b"</x:xmpmeta>") + 12]
    [description] = ElementTree.fromstring(packet).iter(f"{{{RDF}}}Description")
    assert description.attrib[f"{{{IPTC}}}DigitalSourceType"].endswith("/trainedAlgorithmicMedia")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_song_has_the_same_bytes(format: str, channels: int) -> None:
    assert encoded(format, tone(channels)) == encoded(format, tone(channels))


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_can_be_closed_at_any_time(format: str, steps: int) -> None:
    file = FORMATS[format](1, 32_000, SECONDS * 32_000, {})
    for step in [file.begin, lambda: file.encode(tone(1)), file.end][:steps]:
        step()
    file.close()
    file.close()


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", "wav"),
        ("*/*", "wav"),
        ("application/json", "wav"),
        ("audio/flac", "flac"),
        ("Audio/MPEG", "mp3"),
        ("audio/flac;q=0.5, audio/ogg;q=0.9, */*;q=0.1", "ogg"),
        ("audio/flac;q=0", "wav"),
        ("audio/flac;q=much", "wav"),
    ],
)
def test_the_accept_header_chooses_the_format(accept: str, format: str) -> None:
    assert preferred(accept) == format
