import assert from "node:assert/strict";
import { test } from "node:test";
import { track, type ScriptTag } from "../src/tracker.js";
import { Tab, World, type TabOptions } from "./world.js";

const KEY = "markdown_blog_session_id";
const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TAG: ScriptTag = { src: "https://stats.example:8443/track.js?v=1", dataset: {} };

async function open(world: World, name: string, options: TabOptions = {}, tag: ScriptTag | null = TAG): Promise<Tab> {
  const tab = new Tab(world, name, options);
  track(tab.browser, tag);
  await world.pass(0);
  return tab;
}

test("a page load sends one view and one beat, then a beat every 30 seconds", async () => {
  const world = new World();
  await open(world, "a", { path: "/about" });
  await world.pass(95_000);
  assert.deepEqual(world.views(), ["0 /about"]);
  assert.deepEqual(world.beats(), ["0 /about", "30 /about", "60 /about", "90 /about"]);
  assert.deepEqual([...world.urls], ["https://stats.example:8443/api/mutation"]);
});

test("the interval has a jitter of 5 seconds either way", async () => {
  for (const [random, first] of [
    [0, 25],
    [0.9999, 34.999],
  ] as const) {
    const world = new World();
    world.random = random;
    await open(world, "a");
    await world.pass(40_000);
    assert.deepEqual(world.beats(), ["0 /", `${first} /`]);
  }
});

test("the visitor's id is a random UUID kept under the seed's key", async () => {
  const world = new World();
  const first = await open(world, "a");
  const id = world.sent[0]!.sessionId;
  assert.match(id, UUID_V4);
  assert.deepEqual([...world.stored], [[KEY, id]]);
  await open(world, "b");
  assert.ok(first.world.sent.every((sent) => sent.sessionId === id));

  const other = new World();
  await open(other, "a");
  assert.notEqual(other.sent[0]!.sessionId, id);
});

test("the key can be named by the script tag", async () => {
  const world = new World();
  await open(world, "a", {}, { src: TAG.src, dataset: { key: "visitor" } });
  assert.deepEqual([...world.stored.keys()], ["visitor"]);
});

test("without a script tag to read, the page's own origin is the server", async () => {
  const world = new World();
  await open(world, "a", {}, null);
  assert.deepEqual([...world.urls], ["https://site.example/api/mutation"]);
});

test("a script included twice counts once", async () => {
  const world = new World();
  const tab = await open(world, "a");
  track(tab.browser, TAG);
  await world.pass(0);
  assert.equal(world.sent.length, 2);
});

test("page types are those of the seed", async () => {
  const world = new World();
  const tab = await open(world, "a");
  tab.push("/stats");
  tab.push("/stats/more");
  await world.pass(0);
  assert.deepEqual(
    world.sent.filter((s) => s.name === "recordPageView").map((s) => [s.path, s.pageType]),
    [
      ["/", "home"],
      ["/stats", "stats"],
      ["/stats/more", "page"],
    ],
  );
});

test("navigation sends a view and a beat at once, without query and fragment", async () => {
  const world = new World();
  const tab = await open(world, "a");
  await world.pass(3_000);
  tab.push("/one?secret=1#part");
  await world.pass(2_000);
  tab.replace("/two");
  await world.pass(2_000);
  tab.back("/one");
  await world.pass(0);
  assert.deepEqual(world.views(), ["0 /", "3 /one", "5 /two", "7 /one"]);
  assert.deepEqual(world.beats(), ["0 /", "3 /one", "5 /two", "7 /one"]);
});

test("a change of query or fragment alone sends nothing", async () => {
  const world = new World();
  const tab = await open(world, "a", { path: "/list" });
  await world.pass(5_000);
  tab.push("/list?page=2");
  tab.replace("#top");
  tab.back("/list");
  await world.pass(0);
  assert.equal(world.sent.length, 2);
});

test("a navigation restarts the interval, so that beats do not bunch", async () => {
  const world = new World();
  const tab = await open(world, "a");
  await world.pass(29_000);
  tab.push("/next");
  await world.pass(59_000);
  assert.deepEqual(world.beats(), ["0 /", "29 /next", "59 /next"]);
});

test("two beats are never under way at once and the newest path follows", async () => {
  const world = new World();
  world.latency = 4_000;
  const tab = await open(world, "a");
  tab.push("/one");
  tab.push("/two");
  tab.push("/three");
  await world.pass(3_999);
  assert.deepEqual(world.beats(), ["0 /"]);
  await world.pass(1);
  assert.deepEqual(world.beats(), ["0 /", "4 /three"]);
  assert.deepEqual(world.views(), ["0 /", "0 /one", "0 /two", "0 /three"]);
  assert.equal(world.heartbeatsAtOnceMax, 1);
});

test("hidden tabs do not beat; shown again they do if it is due", async () => {
  const world = new World();
  const tab = await open(world, "a");
  await world.pass(10_000);
  tab.hide();
  await world.pass(5_000);
  tab.show(); // 15 s after the last beat: not due
  tab.hide();
  await world.pass(600_000);
  assert.deepEqual(world.beats(), ["0 /"]);
  tab.show();
  await world.pass(30_000);
  assert.deepEqual(world.beats(), ["0 /", "615 /", "645 /"]);
});

test("a tab opened in the background views but beats only when seen", async () => {
  const world = new World();
  const tab = await open(world, "a", { hidden: true });
  await world.pass(90_000);
  assert.deepEqual([world.views(), world.beats()], [["0 /"], []]);
  tab.show();
  await world.pass(0);
  assert.deepEqual(world.beats(), ["90 /"]);
});

test("a page rendered ahead of the visit waits for it", async () => {
  const world = new World();
  const tab = await open(world, "a", { prerendering: true });
  await world.pass(60_000);
  assert.deepEqual(world.sent, []);
  tab.document.emit("prerenderingchange");
  await world.pass(0);
  assert.deepEqual([world.views(), world.beats()], [["60 /"], ["60 /"]]);
});

test("a page back from the back/forward cache is viewed again", async () => {
  const world = new World();
  const tab = await open(world, "a");
  tab.window.emit("pagehide");
  tab.hide();
  assert.equal(world.channels.size, 0, "an open channel would keep the page out of the cache");
  await world.pass(50_000);
  tab.document.hidden = false;
  tab.window.emit("pageshow", { persisted: true });
  await world.pass(0);
  assert.deepEqual([world.views(), world.beats()], [["0 /", "50 /"], ["0 /", "50 /"]]);
  assert.equal(world.channels.size, 1);
});

test("the first pageshow of a page is not another view", async () => {
  const world = new World();
  const tab = await open(world, "a");
  tab.window.emit("pageshow", { persisted: false });
  await world.pass(0);
  assert.equal(world.sent.length, 2);
});

test("errors are swallowed and the next beat comes at its time", async () => {
  const world = new World();
  world.offline = true;
  await open(world, "a");
  await world.pass(65_000);
  world.offline = false;
  await world.pass(30_000);
  assert.deepEqual(world.beats(), ["0 /", "30 /", "60 /", "90 /"]);
});

test("a visible tab always beats before the timeout, also when answers never come", async () => {
  for (const latency of [0, 1_000, 19_000, Infinity]) {
    for (const random of [0, 0.5, 0.9999]) {
      const world = new World();
      world.latency = latency;
      world.random = random;
      const tab = await open(world, "a");
      for (let i = 0; i < 40; i++) {
        await world.pass(7_000);
        if (i % 5 === 1) tab.hide();
        if (i % 5 === 1) tab.show();
        if (i % 11 === 3) tab.push("/" + i);
      }
      let last = 0;
      for (const { at, name } of world.sent) {
        if (name !== "heartbeat") continue;
        assert.ok(at - last < 60_000, `gap of ${at - last} ms at latency ${latency}, random ${random}`);
        last = at;
      }
      assert.ok(world.now - last < 60_000);
      assert.equal(world.heartbeatsAtOnceMax, 1);
    }
  }
});

test("tabs of one browser share the beats of an unchanged visitor", async () => {
  const world = new World();
  await open(world, "a");
  await world.pass(12_000);
  await open(world, "b", { path: "/other" });
  await world.pass(100_000);
  // After the two arrivals at most one tab beats in any 20 seconds.
  const times = world.sent.filter((s) => s.name === "heartbeat").map((s) => s.at);
  for (let i = 2; i < times.length; i++) {
    assert.ok(times[i]! - times[i - 1]! >= 20_000, `beats at ${times}`);
  }
  assert.ok(times.length >= 4 && world.now - times.at(-1)! < 60_000, `beats at ${times}`);
});

test("the tab that gets the focus says where the visitor is", async () => {
  const world = new World();
  const first = await open(world, "a", { path: "/a" });
  await world.pass(5_000);
  const second = await open(world, "b", { path: "/b" });
  await world.pass(1_000);
  first.focus();
  await world.pass(1_000);
  second.focus();
  second.focus();
  await world.pass(0);
  assert.deepEqual(world.beats(), ["0 /a", "5 /b", "6 /a", "7 /b"]);
});

test("a browser without channels between tabs still tracks", async () => {
  const world = new World();
  await open(world, "a", { noChannel: true });
  await world.pass(30_000);
  assert.deepEqual(world.beats(), ["0 /", "30 /"]);
});

test("without storage the id lives as long as the page", async () => {
  const world = new World();
  await open(world, "a", { noStorage: true });
  await world.pass(30_000);
  assert.match(world.sent[0]!.sessionId, UUID_V4);
  assert.equal(new Set(world.sent.map((s) => s.sessionId)).size, 1);
  assert.equal(world.stored.size, 0);
});

for (const wish of [{ doNotTrack: "1" }, { globalPrivacyControl: true }]) {
  test(`${Object.keys(wish)[0]}: nothing is stored, told to other tabs or known again`, async () => {
    const world = new World();
    world.stored.set(KEY, "00000000-0000-4000-8000-000000000000");
    await open(world, "a", wish);
    await world.pass(30_000);
    await open(world, "b", wish);
    assert.equal(world.stored.size, 0, "an id from before the wish is removed");
    assert.equal(world.channels.size, 0);
    const ids = (tab: string): Set<string> => new Set(world.sent.filter((s) => s.tab === tab).map((s) => s.sessionId));
    assert.equal(ids("a").size, 1);
    assert.equal(ids("b").size, 1);
    assert.notDeepEqual(ids("a"), ids("b"));
    assert.deepEqual(world.views(), ["0 /", "30 /"]);
  });
}
