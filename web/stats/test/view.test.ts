import assert from "node:assert/strict";
import { test } from "node:test";
import { rows } from "../src/model.js";
import { change, formatView, parseView, period, type View } from "../src/view.js";

const NOW = Date.UTC(2026, 10, 27, 1, 30);
const at = (ms: number): string => new Date(ms).toISOString().slice(0, 16);

test("a view survives its fragment, and nonsense is the default", () => {
  const views: View[] = [
    { range: "all" },
    { range: "7", hours: true, site: "a.example", path: "/a?&=#ü", country: "CH" },
    { range: "dates", from: "2015-05-17", to: "2015-05-20" },
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
  const series = { points: [point], previous: [{ ...point, views: 4 }], timeZone: "America/New_York", pending: 0 };
  assert.deepEqual(rows(series, "hour"), [{ day: "2026-11-26T22:00Z", views: 5, visitors: 2, before: 4 }]);
  assert.equal(rows(series, "day")[0]!.day, "2026-11-26");
});
