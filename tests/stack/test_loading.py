"""Models come when they are asked for, from the hub or a folder, and go when room is needed."""

import asyncio
import json
import shutil
import time
from pathlib import Path

from tests.conftest import Stack, repository_with, until
from tests.fake_hub import FakeHub
from tests.stack.test_generate import GOOD, code, post, samples, song, until_busy


def loaded(stack: Stack) -> set[str]:
    models = stack.get("/models")[1]["models"]
    return {model["id"] for model in models if model["state"] == "ready"}


async def test_the_default_model_is_the_one_at_hand_and_nothing_is_downloaded(
    stack: Stack, hub: FakeHub
) -> None:
    assert not hub.requests
    models = stack.get("/models")[1]
    assert models["default"] == "musicgen-tiny"
    small = stack.model("musicgen-small")
    assert (small["state"], small["weights"]) == ("unloaded", "missing")
    assert small["license"] == "CC-BY-NC-4.0"


async def test_weights_come_from_the_hub_with_progress_and_are_shared(
    stack: Stack, hub: FakeHub
) -> None:
    hub.bytes_per_second = 2_000_000
    wanted = {**GOOD, "model": "facebook/musicgen-small-stereo"}  # the other spelling in use
    songs = [asyncio.create_task(post(stack, wanted)) for _ in range(3)]
    seen = []
    try:
        while not all(task.done() for task in songs):
            entry = await asyncio.to_thread(stack.model, "musicgen-stereo-small")
            if entry["state"] == "loading" and entry["progress"]["total_bytes"]:
                seen.append((entry["progress"]["bytes"], entry["progress"]["total_bytes"]))
            await asyncio.sleep(0.2)
    finally:
        hub.bytes_per_second = None
    for status, _, body in await asyncio.gather(*songs):
        assert status == 200, body
        assert samples(body).shape == (32_000, 2)
    assert len({done for done, _ in seen}) > 2 and all(done <= total for done, total in seen)
    assert stack.model("musicgen-stereo-small")["weights"] == "cached"
    downloads = [path for path in hub.downloads if path.endswith("/state_dict.bin")]
    assert len(downloads) == 1  # concurrent first requests share one load


async def test_the_least_recently_used_idle_model_makes_room(stack: Stack) -> None:
    for name in ("musicgen-tiny", "my-music", "musicgen-tiny", "musicgen-stereo-small"):
        await song(stack, {**GOOD, "model": name})
    assert loaded(stack) == {"musicgen-tiny", "musicgen-stereo-small"}


async def test_a_model_in_use_is_not_unloaded(stack: Stack) -> None:
    for name in ("musicgen-tiny", "musicgen-stereo-small"):
        await song(stack, {**GOOD, "model": name})
    long = asyncio.create_task(song(stack, {**GOOD, "model": "musicgen-tiny", "duration": 300}))
    await until_busy(stack, 1)  # two requests at once may arrive in any order
    await song(stack, {**GOOD, "model": "my-music"})
    assert not long.done()
    assert loaded(stack) == {"musicgen-tiny", "my-music"}  # though the other was used later
    long.cancel()


async def test_a_model_added_while_the_service_runs_is_served(stack: Stack) -> None:
    late = stack.repository / "late"
    shutil.copytree(stack.repository / "my-music", late)
    assert (await song(stack, {**GOOD, "model": "late"})).shape == (32_000, 2)
    assert stack.model("late")["weights"] == "bundled"
    shutil.rmtree(late)


async def test_what_is_missing_is_said_within_seconds_and_may_be_asked_again(
    stack: Stack, hub: FakeHub
) -> None:
    for _ in range(2):
        began = time.monotonic()
        status, headers, body = await post(stack, {**GOOD, "model": "musicgen-small"})
        assert (status, code(body)[0]) == (503, "weights_missing")
        assert time.monotonic() - began < 15
        assert "facebook/musicgen-small" in json.loads(body)["error"]["message"]
        assert int(headers["Retry-After"]) >= 1
    small = stack.model("musicgen-small")
    assert small["state"] == "unavailable" and "facebook/musicgen-small" in small["reason"]
    until(
        lambda: stack.get("/readyz")[0] == 200, 60
    )  # the default model comes back if it made room


async def test_a_hub_that_never_answers_costs_fifteen_seconds_at_the_most(
    stack: Stack, hub: FakeHub
) -> None:
    hub.mode = "hang"
    try:
        began = time.monotonic()
        status, _, body = await post(stack, {**GOOD, "model": "musicgen-small"})
    finally:
        hub.mode = "serve"
    assert time.monotonic() - began < 15
    assert (status, code(body)[0]) == (503, "weights_missing")


async def test_the_default_model_can_be_chosen(tmp_path: Path, stereo_checkpoint: Path) -> None:
    repository = repository_with(tmp_path / "models", "musicgen-tiny")
    mine = repository / "my-music"
    mine.mkdir()
    (mine / "config.pbtxt").write_text(
        'backend: "python"\ninstance_group { kind: KIND_MODEL }\n'
        f'parameters {{ key: "checkpoint" value {{ string_value: "{stereo_checkpoint}" }} }}\n'
    )
    (mine / "1").mkdir()
    model = (repository / "musicgen-tiny" / "1" / "model.py").read_text()
    (mine / "1" / "model.py").write_text(model)
    # Without a key of ours, Triton and gateway have one that is drawn.
    stack = Stack(repository, {"DEFAULT_MODEL": "my-music", "TRITON_ADMIN_KEY": ""})
    try:
        stack.wait_ready()
        assert until(lambda: loaded(stack)) == {"my-music"}
        status, _, body = await post(stack, GOOD)
        assert (status, samples(body).shape) == (200, (32_000, 2))
    finally:
        stack.stop()
