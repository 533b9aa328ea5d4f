"""The songs that the browser keeps, in its real IndexedDB."""

from playwright.sync_api import Page

FOLLOW = """async () => {
  window.news = [];
  (await import("/store.js")).subscribe((change) => news.push(change));
}"""
KEEP = """async ([id, at, bytes]) => {
  const { save } = await import("/store.js");
  await save({ id, at, blob: new Blob([new Uint8Array(bytes)]) });
}"""
STAR = """async () => {
  const { find, save } = await import("/store.js");
  window.stored ??= await find("old");
  await save(Object.assign(stored, { isStarred: true }));
}"""
FIND = """async () => {
  const { isStarred, blob } = await (await import("/store.js")).find("old");
  return [isStarred, (await blob.arrayBuffer()).byteLength];
}"""
REMOVE = """async () => (await import("/store.js")).remove(["old", "new"])"""
IDS = """async () => (await (await import("/store.js")).load()).map(({ id }) => id).sort()"""


def test_other_tabs_hear_of_changes(quiet_page: Page) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    other.evaluate(FOLLOW)
    quiet_page.evaluate(KEEP, ["old", 1, 10])
    quiet_page.evaluate(KEEP, ["new", 2, 10])
    assert other.evaluate(IDS) == ["new", "old"]
    quiet_page.evaluate(REMOVE)
    assert other.evaluate(IDS) == []
    other.wait_for_function("news.length === 3")
    changes = "news.map((change) => change.removed ?? change.saved)"
    assert other.evaluate(changes) == ["old", "new", ["old", "new"]]


def test_a_change_keeps_all_of_a_song_unless_it_is_deleted(quiet_page: Page) -> None:
    quiet_page.evaluate(KEEP, ["old", 1, 10])
    quiet_page.evaluate(STAR)
    assert quiet_page.evaluate(FIND) == [True, 10]
    quiet_page.evaluate(REMOVE)
    quiet_page.evaluate(STAR)
    assert quiet_page.evaluate(IDS) == []


def test_a_song_without_room_is_refused_and_others_stay(quiet_page: Page) -> None:
    devtools = quiet_page.context.new_cdp_session(quiet_page)
    quota = {"origin": quiet_page.url.rstrip("/"), "quotaSize": 1_000_000}
    devtools.send("Storage.overrideQuotaForOrigin", quota)
    quiet_page.evaluate(KEEP, ["small", 1, 10])
    # Chromium gives an origin some megabytes beyond its quota.
    refused = quiet_page.evaluate(f"({KEEP})(['large', 2, 20e6]).catch(({{ name }}) => name)")
    assert refused == "QuotaExceededError"
    assert quiet_page.evaluate(IDS) == ["small"]
