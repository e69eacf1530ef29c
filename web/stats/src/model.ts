/** What the live queries return, and what is worked out from it before it is shown. */

import { dayIn, hourIn } from "./view.js";

export interface PathCount {
  site?: string;
  path: string;
  count: number;
}

export interface PageStat {
  site?: string;
  path: string;
  title: string;
  pageType: string;
  views: number;
}

export interface Place {
  latitude: number;
  longitude: number;
  city?: string;
  country?: string;
  /** How many visitors the entry stands for; one when absent. */
  count?: number;
}

/** The result of `stats:getStats`. */
export interface Stats {
  activeVisitors: number;
  activeByPath: PathCount[];
  totalPageViews: number;
  uniqueVisitors: number;
  publishedPosts: number;
  publishedPages: number;
  trackingSince: number | null;
  pageStats: PageStat[];
  visitorLocations: Place[];
  totalPaths: number;
}

/** One row of `stats:getViewsByDay`; day is YYYY-MM-DD in UTC. */
export interface DayViews {
  /** An hour of a series is YYYY-MM-DDTHH:00Z, by the clocks of its time zone. */
  day: string;
  views: number;
  visitors?: number;
  /** The views of the same day or hour of the period before. */
  before?: number;
}

/** One point of `stats:getSeries`. */
export interface Point {
  time: number;
  views: number;
  visitors: number;
}

/** The result of `stats:getSeries`. */
export interface Series {
  points: Point[];
  previous: Point[];
  timeZone: string;
  pending: number;
}

/** One column of the chart: a day, or a stretch of days without views too long to draw. */
export type Slot = ({ kind: "day" } & DayViews) | { kind: "gap"; after: string; days: number };

const DAY_MS = 86_400_000;

/** Days without views are drawn as such up to this many; more become one narrow gap. */
const EMPTY_DAYS_MAX = 6;

/**
 * The columns of the chart: the newest days, at most `slotsMax` columns in all. Days
 * with views may lie years apart (an imported log and today), hence the gaps.
 */
export function slots(days: readonly DayViews[], slotsMax: number): Slot[] {
  const all: Slot[] = [];
  let last: string | undefined;
  for (const row of days) {
    const { day } = row;
    if (last !== undefined) {
      const missing = Math.round((Date.parse(day) - Date.parse(last)) / DAY_MS) - 1;
      if (missing > EMPTY_DAYS_MAX) all.push({ kind: "gap", after: last, days: missing });
      else for (let i = 1; i <= missing; i++) all.push({ kind: "day", day: addDays(last, i), views: 0 });
    }
    all.push({ kind: "day", ...row });
    last = day;
  }
  const shown = all.slice(-slotsMax);
  return shown[0]?.kind === "gap" ? shown.slice(1) : shown;
}

function addDays(day: string, count: number): string {
  return new Date(Date.parse(day) + count * DAY_MS).toISOString().slice(0, 10);
}

/** A day named under the chart. */
export interface Label {
  text: string;
  /** Where, as a share of the chart's width. */
  at: number;
  side: "start" | "middle" | "end";
}

/**
 * The days named under a chart of so many columns: the first, the last, those on both
 * sides of a gap and one in the middle, as far as they do not get in each other's way.
 */
export function labels(all: readonly Slot[], width: number): Label[] {
  const day = (index: number): string => {
    const slot = all[index];
    return slot?.kind === "day" ? slot.day : "";
  };
  const last = all.length - 1;
  const years = day(0).slice(0, 4) !== day(last).slice(0, 4);
  const gaps = all.flatMap((slot, index) => (slot.kind === "gap" ? [index + 1, index - 1] : []));
  const shown: Label[] = [];
  for (const index of [0, last, ...gaps, Math.floor(last / 2)]) {
    if (!day(index)) continue;
    const side = index === 0 ? "start" : index === width - 1 ? "end" : "middle";
    const at = (index + (side === "start" ? 0 : side === "end" ? 1 : 0.5)) / width;
    // A label of a short day takes a fifth of a narrow screen, with its year a third.
    if (shown.some((label) => Math.abs(label.at - at) < (years ? 0.33 : 0.2))) continue;
    shown.push({ text: columnName(day(index), years), at, side });
  }
  return shown;
}

/** The name of a day or an hour under the chart. */
function columnName(day: string, years: boolean): string {
  const hour = day.slice(11, 16);
  return hour || (years ? DAY : SHORT_DAY).format(Date.parse(day));
}

/** The rows of the chart for the points of a series, by the clocks of its time zone. */
export function rows(series: Series, unit: "hour" | "day"): DayViews[] {
  return series.points.map((point, i) => {
    const day = dayIn(series.timeZone, point.time);
    const hour = `T${String(hourIn(series.timeZone, point.time)).padStart(2, "0")}:00Z`;
    const before = series.previous[i];
    return {
      day: unit === "hour" ? day + hour : day,
      views: point.views,
      visitors: point.visitors,
      ...(before ? { before: before.views } : {}),
    };
  });
}

/** The top of the chart's scale: a round number that holds max and has a whole half. */
export function scaleTop(max: number): number {
  for (let power = 1; ; power *= 10) {
    for (const step of power === 1 ? [2, 4, 6, 8, 10] : [1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10]) {
      if (step * power >= max) return Math.round(step * power);
    }
  }
}

/**
 * Where a counted path leads on this site, or undefined when that is not known: a
 * path is whatever a browser sent, perhaps from another site, perhaps in malice.
 */
export function link(page: Pick<PageStat, "path" | "pageType">, origin: string): string | undefined {
  if (!["home", "stats", "blog", "page"].includes(page.pageType) || !page.path.startsWith("/")) return undefined;
  try {
    const url = new URL(page.path, origin);
    return url.origin === origin ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const TYPES = new Map([
  ["home", "Home"],
  ["stats", "Statistics"],
  ["blog", "Post"],
  ["page", "Page"],
]);

/** The word shown for a page's type. */
export function typeName(pageType: string): string {
  return TYPES.get(pageType) ?? "Other";
}

/** Whether nothing but the statistics page itself has been seen yet. */
export function unvisited(stats: Stats): boolean {
  return stats.pageStats.every((page) => page.pageType === "stats");
}

const REGIONS = new Intl.DisplayNames(["en"], { type: "region", fallback: "code" });

/** The name of a country that is given by its two letters; another text is its own name. */
export function countryName(country: string): string {
  return /^[A-Z]{2}$/.test(country) ? (REGIONS.of(country) ?? country) : country;
}

/** What the place of a visitor is called: a city, a country, or where it is. */
export function placeName(place: Place): string {
  const named = [place.city, place.country && countryName(place.country)].filter((part) => part);
  if (named.length > 0) return named.join(", ");
  const degrees = (value: number, plus: string, minus: string): string =>
    `${Math.abs(value).toFixed(1)}° ${value < 0 ? minus : plus}`;
  return `${degrees(place.latitude, "N", "S")}, ${degrees(place.longitude, "E", "W")}`;
}

/** The server's part of an error's text, without what the client wraps around it. */
export function serverSaid(message: string): string {
  return message.replace(/^\[CONVEX [^\]]*\] /, "").replace(/\s+Called by client$/, "");
}

const NUMBER = new Intl.NumberFormat("en");
const LONG_DAY = new Intl.DateTimeFormat("en", {
  weekday: "short",
  day: "numeric",
  month: "short",
  year: "numeric",
  timeZone: "UTC",
});
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const SHORT_DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });

/** 12345 as 12,345. */
export function number(value: number): string {
  return NUMBER.format(value);
}

/** A number and its noun: 1 view, 2 views. */
export function counted(value: number, noun: string): string {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** A moment as its UTC day: May 17, 2015. */
export function date(ms: number): string {
  return DAY.format(ms);
}

/** A day with its weekday: Sun, May 17, 2015. */
export function dayName(day: string): string {
  const hour = day.slice(11, 16);
  if (hour) return `${SHORT_DAY.format(Date.parse(day))}, ${hour}`;
  return LONG_DAY.format(Date.parse(day));
}
