import assert from "node:assert/strict";
import { test } from "node:test";
import {
  counted,
  date,
  dayName,
  labels,
  link,
  serverSaid,
  scaleTop,
  slots,
  typeName,
  unvisited,
  type DayViews,
  type Slot,
} from "../src/model.js";

/** Columns as text: the day and its views, or the length of a gap. */
function columns(all: readonly Slot[]): string[] {
  return all.map((slot) => (slot.kind === "day" ? `${slot.day} ${slot.views}` : `gap of ${slot.days}`));
}

function row(day: string, views = 1): DayViews {
  return { day, views };
}

test("days without views between two days are drawn as empty", () => {
  assert.deepEqual(columns(slots([row("2026-02-27", 4), row("2026-03-02", 5)], 60)), [
    "2026-02-27 4",
    "2026-02-28 0",
    "2026-03-01 0",
    "2026-03-02 5",
  ]);
});

test("a long stretch without views is one gap", () => {
  assert.deepEqual(columns(slots([row("2015-05-20", 7), row("2026-11-22", 3)], 60)), [
    "2015-05-20 7",
    "gap of 4203",
    "2026-11-22 3",
  ]);
});

test("six empty days are drawn, seven are a gap", () => {
  assert.equal(slots([row("2026-01-01"), row("2026-01-08")], 60).length, 8);
  assert.equal(slots([row("2026-01-01"), row("2026-01-09")], 60).length, 3);
});

test("only the newest columns are shown and none of them is a leading gap", () => {
  const days = Array.from({ length: 100 }, (_, i) => row(new Date(Date.UTC(2026, 0, 1 + i)).toISOString().slice(0, 10), i));
  assert.deepEqual(columns(slots(days, 3)), ["2026-04-08 97", "2026-04-09 98", "2026-04-10 99"]);
  assert.deepEqual(columns(slots([row("2015-01-01"), row("2026-01-01"), row("2026-01-02")], 3)), [
    "2026-01-01 1",
    "2026-01-02 1",
  ]);
  assert.deepEqual(slots([], 60), []);
});

test("labels name the first and the last day and keep apart", () => {
  const days = Array.from({ length: 30 }, (_, i) => row(new Date(Date.UTC(2026, 0, 1 + i)).toISOString().slice(0, 10)));
  assert.deepEqual(labels(slots(days, 60), 30), [
    { text: "Jan 1", at: 0, side: "start" },
    { text: "Jan 30", at: 1, side: "end" },
    { text: "Jan 15", at: 14.5 / 30, side: "middle" },
  ]);
  const text = (all: DayViews[]): string[] => labels(slots(all, 60), 14).map((label) => label.text);
  assert.deepEqual(text(days.slice(0, 1)), ["Jan 1"]);
  assert.deepEqual(text(days.slice(0, 2)), ["Jan 1"]);
  assert.deepEqual(text([row("2015-05-17"), row("2026-11-21"), row("2026-11-22")]), ["May 17, 2015"]);
  assert.deepEqual(text([]), []);
});

test("the scale's top is round, holds the greatest value and has a whole half", () => {
  for (let max = 1; max < 20_000; max++) {
    const top = scaleTop(max);
    assert.ok(top >= max, `top ${top} for ${max}`);
    assert.ok(top <= Math.max(2 * max, 2), `top ${top} for ${max} wastes the chart`);
    assert.ok(Number.isInteger(top / 2), `half of ${top} for ${max}`);
  }
  assert.deepEqual([1, 3, 9, 11, 2177, 2896].map(scaleTop), [2, 4, 10, 12, 2400, 3000]);
});

test("only a path of this site becomes a link", () => {
  const origin = "https://site.example";
  const cases: [string, string, string | undefined][] = [
    ["/", "home", "https://site.example/"],
    ["/hello", "blog", "https://site.example/hello"],
    ["/a b", "page", "https://site.example/a%20b"],
    ["/hello", "other", undefined],
    ["/hello", "constructor", undefined],
    ["//evil.example/", "blog", undefined],
    ["/\\evil.example/", "blog", undefined],
    ["https://evil.example/", "page", undefined],
    ["javascript:alert(1)", "page", undefined],
    ["hello", "page", undefined],
    ["//[", "page", undefined],
  ];
  for (const [path, pageType, want] of cases) {
    assert.equal(link({ path, pageType }, origin), want, `${pageType} ${path}`);
  }
});

test("types have names, unknown ones too", () => {
  assert.deepEqual(["home", "stats", "blog", "page", "other", "__proto__", ""].map(typeName), [
    "Home",
    "Statistics",
    "Post",
    "Page",
    "Other",
    "Other",
    "Other",
  ]);
});

test("a site is unvisited until something but its statistics has been seen", () => {
  const stats = {
    activeVisitors: 0,
    activeByPath: [],
    totalPageViews: 0,
    uniqueVisitors: 0,
    publishedPosts: 0,
    publishedPages: 0,
    trackingSince: null,
    pageStats: [] as { path: string; title: string; pageType: string; views: number }[],
    visitorLocations: [],
    totalPaths: 0,
  };
  assert.equal(unvisited(stats), true);
  stats.pageStats.push({ path: "/stats", title: "Stats", pageType: "stats", views: 3 });
  assert.equal(unvisited(stats), true);
  stats.pageStats.push({ path: "/", title: "Home", pageType: "home", views: 1 });
  assert.equal(unvisited(stats), false);
});

test("numbers and days read well", () => {
  assert.equal(counted(1, "view"), "1 view");
  assert.equal(counted(12345, "view"), "12,345 views");
  assert.equal(counted(0, "page"), "0 pages");
  assert.equal(date(Date.UTC(2015, 4, 17, 23, 59)), "May 17, 2015");
  assert.equal(dayName("2015-05-17"), "Sun, May 17, 2015");
});

test("an error shows what the server said", () => {
  const wrapped = "[CONVEX Q(stats:getStats)] [Request ID: 1] Server Error\n  Called by client";
  assert.equal(serverSaid(wrapped), "[Request ID: 1] Server Error");
  assert.equal(serverSaid("plain"), "plain");
});
