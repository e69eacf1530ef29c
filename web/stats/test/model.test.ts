import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { counted, countries, date, dayName, elsewhere, labels, readable, serverSaid, scaleTop, unvisited, type DayViews, type Stats } from "../src/model.js";

function row(day: string): DayViews {
  return { day, views: 1, visitors: 1 };
}

test("labels name the first and the last day and keep apart", () => {
  const days = Array.from({ length: 30 }, (_, i) => row(new Date(Date.UTC(2026, 0, 1 + i)).toISOString().slice(0, 10)));
  assert.deepEqual(labels(days, 30), [
    { text: "Jan 1", at: 0, side: "start" },
    { text: "Jan 30", at: 1, side: "end" },
    { text: "Jan 15", at: 14.5 / 30, side: "middle" },
  ]);
  const text = (all: DayViews[]): string[] => labels(all, 14).map((label) => label.text);
  assert.deepEqual(text(days.slice(0, 1)), ["Jan 1"]);
  assert.deepEqual(text(days.slice(0, 2)), ["Jan 1"]);
  assert.deepEqual(text([row("2015-05-17"), row("2026-11-21"), row("2026-11-22")]), ["May 17, 2015"]);
  assert.deepEqual(text([]), []);
  const hour = (day: string): DayViews => row(`${day}T13:00Z`);
  assert.deepEqual(text([hour("2026-11-22")]), ["13:00"]);
  assert.deepEqual(labels(Array.from({ length: 50 }, (_, i) => hour(i < 25 ? "2026-11-22" : "2026-11-23")), 50).map((label) => label.text), [
    "Nov 22, 13:00",
    "Nov 23, 13:00",
    "Nov 22, 13:00",
  ]);
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

test("visitors are counted by country, the unknown ones not", () => {
  const at = { latitude: 0, longitude: 0 };
  assert.deepEqual(countries([{ ...at, country: "PT" }, at, { ...at, country: "KE", count: 3 }, { ...at, country: "PT", city: "Lisbon" }]), [
    ["Kenya", 3],
    ["Portugal", 2],
  ]);
  assert.deepEqual(countries([{ ...at, country: "PT" }, { ...at, country: "KE" }]), [["Kenya", 1], ["Portugal", 1]]);
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
  assert.equal(date(Date.UTC(2015, 4, 17, 23, 59), "UTC"), "May 17, 2015");
  assert.equal(date(Date.UTC(2015, 4, 17, 23, 59), "Europe/Zurich"), "May 18, 2015");
  assert.equal(dayName("2015-05-17"), "Sun, May 17, 2015");
});

test("a path is shown as people read it", () => {
  const cases = JSON.parse(readFileSync("testdata/readable.json", "utf8")) as { path: string; readable: string }[];
  for (const { path, readable: want } of cases) assert.equal(readable(path), want, path);
});

test("an error shows what the server said", () => {
  const wrapped = "[CONVEX Q(stats:getStats)] [Request ID: 1] Server Error\n  Called by client";
  assert.equal(serverSaid(wrapped), "[Request ID: 1] Server Error");
  assert.equal(serverSaid("plain"), "plain");
});

test("those beside the pages that are shown are all of them, also beyond the list", () => {
  const stats = { ...({} as Stats), activeVisitors: 1009, activeByPath: Array.from({ length: 500 }, (_, i) => ({ path: `/${i}`, count: 2 })) };
  const shown = stats.activeByPath.slice(0, 12);
  assert.deepEqual(elsewhere({ ...stats, activePaths: 509 }, shown), { visitors: 985, pages: 497 });
  assert.deepEqual(elsewhere(stats, shown), { visitors: 985, pages: 488 }); // of an older server
  assert.deepEqual(elsewhere({ ...stats, activeVisitors: 24, activeByPath: shown, activePaths: 12 }, shown), { visitors: 0, pages: 0 });
});
