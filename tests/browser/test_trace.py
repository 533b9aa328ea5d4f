"""The trace of a song begins at the page."""

from opentelemetry import trace
from playwright.sync_api import Page, Request, expect

from protocol import tracing
from tests.browser.page import ask, playing, whole
from tests.gateway.fake_triton import FakeTriton


def trace_id(request: Request) -> str:
    context = trace.get_current_span(tracing.parent(request.headers)).get_span_context()
    assert context.is_valid and context.trace_flags.sampled
    return trace.format_trace_id(context.trace_id)


def test_each_song_is_a_trace_with_the_id_of_its_request(quiet_page: Page) -> None:
    ids = set()
    for _ in range(2):
        with quiet_page.expect_request("**/generate") as sent:
            ask(quiet_page, "calm piano", "1")
        whole(quiet_page)
        assert trace_id(sent.value) == sent.value.headers["x-request-id"]
        ids.add(trace_id(sent.value))
    assert len(ids) == 2


def test_a_change_is_in_the_trace_of_its_song(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4
    quiet_page.get_by_label("Steer", exact=True).check()
    with quiet_page.expect_request("**/generate") as song:
        ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_be_visible()
    quiet_page.get_by_label("Change it to").fill("fast drums")
    with quiet_page.expect_request(lambda request: request.method == "PATCH") as change:
        quiet_page.get_by_label("Change it to").press("Enter")
    assert trace_id(change.value) == trace_id(song.value)
