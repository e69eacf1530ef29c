import assert from "node:assert/strict";
import { test } from "node:test";
import { track, type ScriptTag } from "../src/script.js";
import { Tab, World, type TabOptions } from "./world.js";

const KEY = "markdown_blog_session_id";
/** What a page that opens waits for the other tabs of its browser. */
const SETTLE = 50;
const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TAG: ScriptTag = { src: "https://stats.example:8443/track.js?v=1", dataset: {} };

function tag(dataset: ScriptTag["dataset"]): ScriptTag {
  return { src: TAG.src, dataset };
}

async function open(world: World, name: string, options: TabOptions = {}, script: ScriptTag | null = TAG): Promise<Tab> {
  const tab = new Tab(world, name, options);
  track(tab.browser, script);
  await world.pass(SETTLE);
  return tab;
}

/** The moments of the beats, in milliseconds. */
function moments(world: World): number[] {
  return world.sent.filter((s) => s.name === "heartbeat").map((s) => s.at);
}

test("a page load sends one view and one beat, then a beat every 30 seconds", async () => {
  const world = new World();
  await open(world, "a", { path: "/about" });
  await world.pass(95_000);
  assert.deepEqual(world.views(), ["0 /about"]);
  assert.deepEqual(world.beats(), ["0 /about", "30 /about", "60 /about", "90 /about"]);
  assert.deepEqual([...world.urls], ["https://stats.example:8443/api/event"]);
});

test("the interval has a jitter of 5 seconds either way", async () => {
  for (const [random, first] of [
    [0, 25],
    [0.9999, 34.9],
  ] as const) {
    const world = new World();
    world.random = random;
    await open(world, "a", { doNotTrack: "1" }); // alone, so without the wait for other tabs
    await world.pass(40_000);
    assert.deepEqual(world.beats(), ["0 /", `${first} /`]);
  }
});

test("the visitor's id is a random UUID kept under the original's key", async () => {
  const world = new World();
  await open(world, "a");
  const id = world.sent[0]!.visitor;
  assert.match(id ?? "", UUID_V4);
  assert.deepEqual([...world.stored], [[KEY, id]]);
  await open(world, "b");
  assert.ok(world.sent.every((sent) => sent.visitor === id));

  const other = new World();
  await open(other, "a");
  assert.notEqual(other.sent[0]!.visitor, id);
});

test("the script tag has the settings", async () => {
  const world = new World();
  await open(world, "a", {}, tag({ key: "visitor", api: "/hello", domain: "site.example" }));
  assert.deepEqual([...world.stored.keys()], ["visitor"]);
  assert.deepEqual([...world.urls], ["https://stats.example:8443/hello"]);
  assert.ok(world.sent.every((s) => s.more.domain === "site.example"));
});

test("without a script tag to read, the page's own origin is the server", async () => {
  const world = new World();
  await open(world, "a", {}, null);
  assert.deepEqual([...world.urls], ["https://site.example/api/event"]);
});

test("a script included twice counts once", async () => {
  const world = new World();
  const tab = await open(world, "a");
  track(tab.browser, TAG);
  await world.pass(SETTLE);
  assert.equal(world.sent.length, 2);
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
  await world.pass(SETTLE);
  assert.equal(world.sent.length, 2);
});

test("where the fragment names the page, it is the path", async () => {
  const cases: [string, string][] = [
    ["/", "/"],
    ["/#/", "/"],
    ["/#/about", "/about"],
    ["/#!/about", "/about"],
    ["/#about?token=1", "/about"],
    ["/app/#/a/b", "/app/a/b"],
    ["/app#/a", "/app/a"],
  ];
  for (const [path, want] of cases) {
    const world = new World();
    await open(world, "a", { path }, tag({ hash: "" }));
    assert.deepEqual([world.views(), world.beats()], [[`0 ${want}`], [`0 ${want}`]], path);
  }
  const world = new World();
  const tab = await open(world, "a", { path: "/#/one" }, tag({ hash: "" }));
  await world.pass(2_000);
  tab.hash("#/two");
  await world.pass(0);
  assert.deepEqual([world.views(), world.beats()], [["0 /one", "2 /two"], ["0 /one", "2 /two"]]);
});

test("a source is told once and nothing else of the query", async () => {
  const world = new World();
  const tab = await open(world, "a", { path: "/?token=1&utm_source=x%20y&pref=2&ref=news#z", referrer: "https://other.example/" });
  tab.push("/next?utm_source=again");
  await world.pass(2_000);
  assert.deepEqual(
    world.sent.filter((s) => s.name === "pageview").map((s) => [s.path, s.more.referrer]),
    [
      ["/?utm_source=x%20y&ref=news", "https://other.example/"],
      ["/next", "https://site.example/"],
    ],
  );
  assert.ok(world.sent.every((s) => s.name !== "heartbeat" || !s.path.includes("?")));
});

test("a navigation restarts the interval, so that beats do not bunch", async () => {
  const world = new World();
  const tab = await open(world, "a");
  await world.pass(29_000 - SETTLE);
  tab.push("/next");
  await world.pass(59_000);
  assert.deepEqual(world.beats(), ["0 /", "29 /next", "59 /next"]);
});

test("a change beats at most once a second, and the newest page does", async () => {
  const world = new World();
  const tab = await open(world, "a");
  await world.pass(2_000 - SETTLE);
  for (let i = 1; i <= 30; i++) {
    tab.push("/" + i);
    await world.pass(100);
  }
  await world.pass(2_000);
  assert.equal(world.views().length, 31, "every page is a view");
  assert.deepEqual(world.beats(), ["0 /", "2 /1", "3 /10", "4 /20", "5 /30"]);
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
  await world.pass(SETTLE);
  tab.hide();
  await world.pass(600_000 - SETTLE);
  assert.deepEqual(world.beats(), ["0 /"]);
  tab.show();
  await world.pass(30_000 + SETTLE);
  assert.deepEqual(world.beats(), ["0 /", "615.1 /", "645.1 /"]);
});

test("a tab opened in the background views but beats only when seen", async () => {
  const world = new World();
  const tab = await open(world, "a", { hidden: true });
  await world.pass(90_000 - SETTLE);
  assert.deepEqual([world.views(), world.beats()], [["0 /"], []]);
  tab.show();
  await world.pass(SETTLE);
  assert.deepEqual(world.beats(), ["90 /"]);
});

test("a page rendered ahead of the visit waits for it", async () => {
  const world = new World();
  const tab = await open(world, "a", { prerendering: true });
  await world.pass(60_000 - SETTLE);
  assert.deepEqual(world.sent, []);
  tab.document.emit("prerenderingchange");
  await world.pass(SETTLE);
  assert.deepEqual([world.views(), world.beats()], [["60 /"], ["60 /"]]);
});

test("events of a page rendered ahead wait for the visit too, and follow the view", async () => {
  const world = new World();
  const tab = new Tab(world, "a", { prerendering: true });
  Object.assign(tab.browser, { halcyon: { q: [["early"]] } });
  track(tab.browser, TAG);
  tab.browser.halcyon!("signup", { props: { plan: "big" } });
  await world.pass(60_000);
  assert.equal(world.sent.length, 0);
  tab.document.prerendering = false;
  tab.document.emit("prerenderingchange");
  tab.browser.halcyon!("late");
  await world.pass(0);
  assert.deepEqual(
    world.sent.filter((s) => s.name !== "heartbeat").map((s) => [s.at, s.name, s.more.props]),
    [
      [60_000, "pageview", undefined],
      [60_000, "early", undefined],
      [60_000, "signup", { plan: "big" }],
      [60_000, "late", undefined],
    ],
  );
});

test("a page back from the back/forward cache is viewed again", async () => {
  const world = new World();
  const tab = await open(world, "a");
  tab.close();
  assert.equal(world.channels.size, 0, "an open channel would keep the page out of the cache");
  assert.deepEqual(world.leaves(), ["0 /"]);
  await world.pass(50_000 - SETTLE);
  tab.document.hidden = false;
  tab.focused = true;
  tab.window.emit("pageshow", { persisted: true });
  await world.pass(SETTLE);
  assert.deepEqual([world.views(), world.beats()], [["0 /", "50 /"], ["0 /", "50 /"]]);
  assert.equal(world.channels.size, 1);
});

test("the first pageshow of a page is not another view", async () => {
  const world = new World();
  const tab = await open(world, "a");
  tab.window.emit("pageshow", { persisted: false });
  await world.pass(SETTLE);
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
      for (const at of moments(world)) {
        assert.ok(at - last < 60_000, `gap of ${at - last} ms at latency ${latency}, random ${random}`);
        last = at;
      }
      assert.ok(world.now - last < 60_000);
      if (latency < Infinity) assert.equal(world.heartbeatsAtOnceMax, 1);
    }
  }
});

test("a clock that is set back does not silence a tab", async () => {
  const world = new World();
  const tab = await open(world, "a");
  world.clockError = -3_600_000;
  tab.focus();
  await world.pass(95_000);
  assert.deepEqual(world.beats(), ["0 /", "0.1 /", "30.1 /", "60.1 /", "90.1 /"]);
});

test("any number of windows in view is one visitor: one unchanged beat a window, and none missing", async () => {
  for (const tabs of [2, 3, 7]) {
    const world = new World();
    let seed = tabs;
    world.random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    for (let i = 0; i < tabs; i++) await open(world, "t" + i, { path: "/same" });
    await world.pass(1_200_000);
    const at = moments(world);
    for (let i = 1; i < at.length; i++) {
      assert.ok(at[i]! - at[i - 1]! >= 20_000 && at[i]! - at[i - 1]! < 60_000, `${tabs} tabs: ${at[i]! - at[i - 1]!} ms between beats`);
    }
    assert.ok(at.length > 20);
  }
});

test("windows whose timers fire in the same moment send one beat", async () => {
  const world = new World();
  world.random = (tab) => (tab === "a" ? 0.5 : 0.6);
  const first = await open(world, "a");
  await open(world, "b");
  world.random = 0.5;
  first.focus();
  for (const tab of world.tabs) tab.document.emit("visibilitychange"); // both wait 30 s from now on
  world.random = (tab) => (tab === "a" ? 0.5 : 0.6);
  await world.pass(31_000);
  assert.deepEqual(world.beats(), ["0 /", "30.1 /"]);
  assert.equal(world.sent.at(-1)!.tab, "a", "the tab with the focus goes first");
});

test("the tab that gets the focus says where the visitor is", async () => {
  const world = new World();
  const first = await open(world, "a", { path: "/a" });
  await world.pass(5_000);
  const second = await open(world, "b", { path: "/b" });
  await world.pass(2_000);
  first.focus();
  await world.pass(2_000);
  second.focus();
  second.focus();
  await world.pass(SETTLE);
  assert.deepEqual(world.beats(), ["0 /a", "5.1 /b", "7.1 /a", "9.1 /b"]);
});

test("a window in view beside the one with the focus speaks for it, and not of itself", async () => {
  const world = new World();
  world.random = (tab) => (tab === "a" ? 0 : 0.9999); // a is always the first to beat
  const aside = await open(world, "a", { path: "/aside" });
  await open(world, "b", { path: "/front" });
  await world.pass(100_000);
  assert.deepEqual(new Set(world.beats().slice(1).map((beat) => beat.split(" ")[1])), new Set(["/front"]));
  aside.push("/aside/next"); // moves by itself
  await world.pass(100_000);
  assert.deepEqual(new Set(world.beats().slice(1).map((beat) => beat.split(" ")[1])), new Set(["/front"]));
  assert.deepEqual(world.views(), ["0 /aside", "0 /front", "100.1 /aside/next"]);
});

test("when the tab with the focus is closed, the one still in view says where the visitor is", async () => {
  for (const go of ["close", "hide"] as const) {
    const world = new World();
    await open(world, "a", { path: "/a" });
    const second = await open(world, "b", { path: "/b" });
    await world.pass(5_000);
    second[go]();
    await world.pass(100);
    assert.deepEqual(world.beats(), ["0 /a", "1 /b", "5.1 /a"], go);
  }
});

test("a tab that opens beside another of the same page does not beat inside of the window", async () => {
  const world = new World();
  await open(world, "a");
  await world.pass(10_000);
  await open(world, "b");
  await world.pass(9_000);
  assert.deepEqual(world.beats(), ["0 /"]);
});

test("a browser without channels between tabs still tracks", async () => {
  const world = new World();
  await open(world, "a", { noChannel: true });
  await world.pass(30_000);
  assert.deepEqual(world.beats(), ["0 /", "30 /"]);
});

for (const storage of ["full", "blocked"] as const) {
  test(`with storage that is ${storage} the id lives as long as the page, and is no unique visitor's`, async () => {
    const world = new World();
    await open(world, "a", { storage });
    await world.pass(30_000);
    const of = (name: string): unknown[] => world.sent.filter((s) => s.name === name).map((s) => s.visitor);
    assert.deepEqual(of("pageview"), [undefined]);
    assert.equal(of("heartbeat").length, 2);
    assert.equal(new Set(of("heartbeat")).size, 1);
    assert.match(String(of("heartbeat")[0]), UUID_V4);
    assert.equal(world.stored.size, 0);
  });
}

for (const wish of [{ doNotTrack: "1" }, { globalPrivacyControl: true }]) {
  test(`${Object.keys(wish)[0]}: nothing is stored, told to other tabs or known again`, async () => {
    const world = new World();
    world.stored.set(KEY, "00000000-0000-4000-8000-000000000000");
    const tab = await open(world, "a", wish);
    tab.browser.halcyon!("signup");
    await world.pass(30_000);
    await open(world, "b", wish);
    assert.equal(world.stored.size, 0, "an id from before the wish is removed");
    assert.equal(world.channels.size, 0);
    const ids = (tab: string): Set<unknown> =>
      new Set(world.sent.filter((s) => s.tab === tab && s.name === "heartbeat").map((s) => s.visitor));
    assert.equal(ids("a").size, 1);
    assert.equal(ids("b").size, 1);
    assert.notDeepEqual(ids("a"), ids("b"));
    assert.deepEqual(world.views(), ["0 /", "30 /"]);
    assert.ok(world.sent.every((s) => s.name === "heartbeat" || s.visitor === undefined), "views and events are nobody's");
  });

  test(`${Object.keys(wish)[0]} is not listened to where the tag says so`, async () => {
    const world = new World();
    await open(world, "a", wish, tag({ signals: "ignore" }));
    assert.equal(world.stored.get(KEY), world.sent[0]!.visitor);
  });
}

test("a browser that is not to be counted sends nothing until it is again", async () => {
  const world = new World();
  const tab = await open(world, "a", { path: "/#halcyon-ignore" });
  tab.browser.halcyon!("signup");
  await open(world, "b");
  await open(world, "c", { doNotTrack: "1" });
  await world.pass(60_000);
  assert.deepEqual(world.sent, []);
  assert.deepEqual([...world.stored], [[KEY, "ignore"]]);
  await open(world, "d", { path: "/#halcyon-count" });
  assert.deepEqual(world.views(), ["60.1 /"]);
  assert.match(world.stored.get(KEY) ?? "", UUID_V4);
});

test("a heading whose fragment begins like the switch is none", async () => {
  const world = new World();
  await open(world, "a");
  const id = world.stored.get(KEY);
  for (const heading of ["halcyon-and-others", "halcyon-ignores-nobody", "halcyon-counts", "halcyon-"]) {
    await open(world, heading, { path: "/page#" + heading });
    assert.equal(world.stored.get(KEY), id, heading);
  }
  assert.ok(world.sent.every((sent) => sent.visitor === id));
});

test("custom events are sent with their properties, also those from before the script was there", async () => {
  const world = new World();
  const tab = new Tab(world, "a", { path: "/shop?q=1" });
  const call = (...args: unknown[]): unknown[] => args;
  Object.assign(tab.browser, { halcyon: { q: [call("early"), call("bought", { props: { plan: "big" } })] } });
  track(tab.browser, TAG);
  tab.browser.halcyon!("late", { props: { n: 1, yes: true } });
  await world.pass(0);
  const id = world.stored.get(KEY);
  assert.deepEqual(
    world.sent.filter((s) => s.name !== "pageview").map((s) => [s.name, s.path, s.visitor, s.more.props]),
    [
      ["early", "/shop", id, undefined],
      ["bought", "/shop", id, { plan: "big" }],
      ["late", "/shop", id, { n: 1, yes: true }],
    ],
  );
});

test("a page that is left says so once", async () => {
  const world = new World();
  const tab = await open(world, "a", { path: "/a" });
  await world.pass(5_000);
  tab.close();
  await world.pass(600_000);
  assert.deepEqual([world.leaves(), world.beats()], [["5 /a"], ["0 /a"]]);
  assert.equal(world.sent.at(-1)!.visitor, world.stored.get(KEY));
});

test("a tab that is closed beside another of the visitor's says nothing, the last one does", async () => {
  for (const path of ["/a", "/b"]) {
    for (const stay of [1_000, 30_000, 300_000]) {
      const world = new World();
      const first = await open(world, "first", { path: "/a" });
      await world.pass(stay);
      const second = await open(world, "second", { path });
      await world.pass(stay);
      second.close();
      await world.pass(stay);
      assert.deepEqual(world.leaves(), [], `${path} closed after ${stay} ms`);
      first.close();
      assert.deepEqual(world.leaves().length, 1, "the last one");
      assert.equal(world.sent.at(-1)!.tab, "first");
    }
  }
});

test("a hidden tab is closed without a word while the visitor is in another", async () => {
  const world = new World();
  const hidden = await open(world, "hidden");
  await world.pass(60_000);
  hidden.hide();
  const seen = await open(world, "seen");
  await world.pass(300_000);
  hidden.close();
  assert.deepEqual(world.leaves(), []);
  seen.close();
  assert.equal(world.leaves().length, 1);
});

test("a tab that is hidden for long does not keep the visitor", async () => {
  const world = new World();
  const hidden = await open(world, "hidden");
  hidden.hide();
  const seen = await open(world, "seen");
  await world.pass(60_000);
  seen.close();
  assert.equal(world.leaves().length, 1);
});

test("tabs that are closed one right after the other are gone with the last", async () => {
  const world = new World();
  const tabs = [await open(world, "a"), await open(world, "b"), await open(world, "c")];
  await world.pass(100_000);
  for (const tab of tabs) {
    tab.focus();
    await world.pass(1_000);
    tab.close();
    await world.pass(1_000);
  }
  assert.deepEqual(
    world.sent.filter((s) => s.name === "leave").map((s) => s.tab),
    ["c"],
  );
});
