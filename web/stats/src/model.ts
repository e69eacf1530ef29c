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
  /** No more is known than the country, and this is its middle. */
  countryOnly?: boolean;
}

/** The result of `stats:getStats`. */
export interface Stats {
  activeVisitors: number;
  activeByPath: PathCount[];
  activePaths?: number; // pages with a visitor, those that activeByPath leaves out too
  totalPageViews: number;
  uniqueVisitors: number;
  publishedPosts: number;
  publishedPages: number;
  trackingSince: number | null;
  pageStats: PageStat[];
  visitorLocations: Place[];
  totalPaths: number;
}

/** How many visitors are on how many pages beside those that are shown. */
export function elsewhere(stats: Stats, shown: PathCount[]): { visitors: number; pages: number } {
  const listed = shown.reduce((sum, row) => sum + row.count, 0);
  return {
    visitors: Math.max(0, stats.activeVisitors - listed),
    pages: Math.max(stats.activePaths ?? 0, stats.activeByPath.length) - shown.length,
  };
}

/** One column of the chart: a day as YYYY-MM-DD, or an hour as YYYY-MM-DDTHH:00Z by the clocks of its time zone. */
export interface DayViews {
  day: string;
  views: number;
  visitors: number;
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

/** A day named under the chart. */
export interface Label {
  text: string;
  /** Where, as a share of the chart's width. */
  at: number;
  side: "start" | "middle" | "end";
}

/**
 * The days named under a chart of so many columns: the first, the last and one in the
 * middle, as far as they do not get in each other's way. On a narrow screen the style has
 * no place for a third that is long.
 */
export function labels(all: readonly DayViews[], width: number): Label[] {
  const last = all.length - 1;
  const years = all[0]?.day.slice(0, 4) !== all[last]?.day.slice(0, 4);
  const days = all[0]?.day.slice(0, 10) !== all[last]?.day.slice(0, 10);
  const shown: Label[] = [];
  for (const index of new Set([0, last, Math.floor(last / 2)])) {
    const day = all[index]?.day;
    if (!day) continue;
    const side = index === 0 ? "start" : index === width - 1 ? "end" : "middle";
    const at = (index + (side === "start" ? 0 : side === "end" ? 1 : 0.5)) / width;
    // A label of a short day takes a fifth of a narrow screen, with its year a third.
    if (shown.some((label) => Math.abs(label.at - at) < (years ? 0.33 : 0.2))) continue;
    shown.push({ text: columnName(day, years, days), at, side });
  }
  return shown;
}

/** The name of a day, or of an hour, which is of several days, under the chart. */
function columnName(day: string, years: boolean, days: boolean): string {
  const hour = day.slice(11, 16);
  if (hour && days) return `${SHORT_DAY.format(Date.parse(day))}, ${hour}`;
  return hour || (years ? DAY : SHORT_DAY).format(Date.parse(day));
}

/** The rows of the chart for the points of a series that have begun, by the clocks of its time zone. */
export function rows(series: Series, unit: "hour" | "day", now: number, compared: boolean): DayViews[] {
  return series.points.filter(({ time }) => time <= now).map((point, i) => {
    const day = dayIn(series.timeZone, point.time);
    const hour = `T${String(hourIn(series.timeZone, point.time)).padStart(2, "0")}:00Z`;
    const before = compared ? series.previous[i] : undefined;
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
  if (place.countryOnly && place.country) return `Somewhere in ${countryName(place.country)}`;
  const named = [place.city, place.country && countryName(place.country)].filter((part) => part);
  if (named.length > 0) return named.join(", ");
  const degrees = (value: number, plus: string, minus: string): string =>
    `${Math.abs(value).toFixed(1)}° ${value < 0 ? minus : plus}`;
  return `${degrees(place.latitude, "N", "S")}, ${degrees(place.longitude, "E", "W")}`;
}

/** How many visitors are in each country, most first. Those whose country is not known are not counted. */
export function countries(places: readonly Place[]): [name: string, visitors: number][] {
  const found = new Map<string, number>();
  for (const { country, count = 1 } of places) {
    if (country) found.set(countryName(country), (found.get(countryName(country)) ?? 0) + count);
  }
  return [...found].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
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

/** A moment as its day in a time zone: May 17, 2015. */
export function date(ms: number, zone: string): string {
  return dateOf(dayIn(zone, ms));
}

/** What stays written out in a path: what can't be seen. The joiners are parts of letters and of emoji. */
const UNSEEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Z}]/gu;

/** A path as people read it: %C3%BC is ü. web/readable.go has the same. */
export function readable(path: string): string {
  try {
    return decodeURI(path).replace(UNSEEN, encodeURIComponent);
  } catch {
    return path;
  }
}

/** A day given as YYYY-MM-DD: May 17, 2015. */
export function dateOf(day: string): string {
  return DAY.format(Date.parse(day));
}

/** A day with its weekday: Sun, May 17, 2015. */
export function dayName(day: string): string {
  const hour = day.slice(11, 16);
  if (hour) return `${SHORT_DAY.format(Date.parse(day))}, ${hour}`;
  return LONG_DAY.format(Date.parse(day));
}
