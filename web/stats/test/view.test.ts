import assert from "node:assert/strict";
import { test } from "node:test";
import { rows } from "../src/model.js";
import { change, formatView, isLong, parseView, period, type View } from "../src/view.js";

const NOW = Date.UTC(2026, 10, 27, 1, 30);
const at = (ms: number): string => new Date(ms).toISOString().slice(0, 16);

test("a view survives its fragment, and nonsense is the default", () => {
  const views: View[] = [
    { range: "all" },
    { range: "7", hours: true, site: "a.example", path: "/a?&=#ü", country: "CH" },
    { range: "dates", from: "2015-05-17", to: "2015-05-20" },
    { range: "all", first: true },
  ];
  for (const view of views) assert.deepEqual(parseView(formatView(view)), view);
  for (const text of ["", "#", "#range=2", "#range=dates", "#range=dates&from=2015-05-20&to=2015-05-17", "#range=dates&from=x&to=y"]) {
    assert.deepEqual(parseView(text), { range: "all" }, text);
  }
});

test("a period begins on the right day of its time zone", () => {
  const begin = (view: View, zone: string): string => at(period(view, NOW, zone, null).from);
  assert.equal(begin({ range: "today" }, "UTC"), "2026-11-27T00:00");
  assert.equal(begin({ range: "today" }, "America/New_York"), "2026-11-26T05:00");
  assert.equal(begin({ range: "7" }, "UTC"), "2026-11-21T12:00");
  assert.equal(begin({ range: "7" }, "America/New_York"), "2026-11-20T12:00");
  assert.equal(begin({ range: "7", hours: true }, "UTC"), "2026-11-21T00:00");
  assert.equal(begin({ range: "90" }, "UTC"), "2026-08-30T12:00");
});

test("an hour has the same hour of another day before it, also on a day of 25 hours", () => {
  const hours = (view: View, now: number, zone: string): string[] => {
    const { from, to } = period(view, now, zone, null);
    return [at(from), at(to!)];
  };
  assert.deepEqual(hours({ range: "today" }, NOW, "UTC"), ["2026-11-27T00:00", "2026-11-28T00:00"]);
  const long = Date.UTC(2026, 10, 1, 15);
  assert.deepEqual(hours({ range: "today" }, long, "America/New_York"), ["2026-11-01T04:00", "2026-11-02T05:00"]);
  assert.deepEqual(hours({ range: "7", hours: true }, long, "America/New_York"), ["2026-10-26T04:00", "2026-11-02T05:00"]);
  assert.deepEqual(hours({ range: "today" }, Date.UTC(2026, 2, 29, 12), "Europe/Zurich"), ["2026-03-28T23:00", "2026-03-29T22:00"]);
  assert.deepEqual(hours({ range: "today" }, NOW, "Pacific/Auckland"), ["2026-11-26T11:00", "2026-11-27T11:00"]);
});

test("there is more than all time shows when the first day lies more than 400 days back", () => {
  const since = (ms: number | null): boolean => isLong(ms, NOW, "UTC");
  assert.deepEqual([null, NOW, Date.UTC(2025, 9, 24, 5), Date.UTC(2025, 9, 23, 23)].map(since), [false, false, false, true]);
});

test("all time and dates reach back 400 days at most", () => {
  const all = (since: number | null): string => at(period({ range: "all" }, NOW, "UTC", since).from);
  assert.deepEqual([null, Date.UTC(2026, 10, 1, 23), 0].map(all), ["2026-11-27T12:00", "2026-11-01T12:00", "2025-10-24T12:00"]);
  const early = period({ range: "all" }, NOW, "UTC", Date.UTC(2015, 4, 17), true);
  assert.deepEqual([at(early.from), at(early.to!)], ["2015-05-17T12:00", "2016-06-19T12:00"]);
  const { from, to } = period({ range: "dates", from: "2015-05-17", to: "2015-05-20" }, NOW, "UTC", null);
  assert.deepEqual([at(from), at(to!)], ["2015-05-17T12:00", "2015-05-20T12:00"]);
});

test("a change is told in percent, and never of nothing", () => {
  assert.deepEqual(
    [change(3, undefined), change(0, 0), change(3, 0), change(3, 3), change(1, 4), change(30, 2)],
    ["", "", "new", "±0 %", "−75 %", "+1,400 %"],
  );
});

test("the points of a series are named by the clocks of its time zone", () => {
  const point = { time: Date.UTC(2026, 10, 27, 3), views: 5, visitors: 2 };
  const later = { ...point, time: point.time + 3_600_000 };
  const series = { points: [point, later], previous: [{ ...point, views: 4 }, point], timeZone: "America/New_York", pending: 0 };
  assert.deepEqual(rows(series, "hour", point.time, true), [{ day: "2026-11-26T22:00Z", views: 5, visitors: 2, before: 4 }]);
  assert.deepEqual(rows(series, "day", later.time, false)[1], { day: "2026-11-26", views: 5, visitors: 2 });
});
