/** What part of the views the page is about: a range of days and a filter. Kept in the fragment. */

export const RANGES = ["today", "7", "30", "90", "all", "dates"] as const;
export type Range = (typeof RANGES)[number];

/** What narrows the views. Absent means all. */
export interface Filter {
  readonly site?: string;
  readonly path?: string;
  readonly country?: string;
}

export interface View extends Filter {
  readonly range: Range;
  /** The first and the last day of the range "dates", as YYYY-MM-DD. */
  readonly from?: string;
  readonly to?: string;
  /** Whether the chart of seven days has hours. */
  readonly hours?: boolean;
  /** Whether "all" is about the first days that can be counted and not about the last. */
  readonly first?: boolean;
}

const FILTERS = ["site", "path", "country"] as const;
const DAY = /^\d{4}-\d\d-\d\d$/;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/** The most days a breakdown counts. */
export const DAYS_MAX = 400;

/** The view that a fragment names. What it does not name, or not rightly, is the default. */
export function parseView(fragment: string): View {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const view: { -readonly [name in keyof View]: View[name] } = { range: "all" };
  const range = RANGES.find((name) => name === given.get("range"));
  const [from, to] = [given.get("from") ?? "", given.get("to") ?? ""];
  const dated = [from, to].every((day) => DAY.test(day) && !Number.isNaN(Date.parse(day))) && from <= to;
  if (range && (range !== "dates" || dated)) view.range = range;
  if (view.range === "dates") [view.from, view.to] = [from, to];
  if (given.has("hours")) view.hours = true;
  if (given.has("first") && view.range === "all") view.first = true;
  for (const name of FILTERS) {
    const value = given.get(name);
    if (value) view[name] = value;
  }
  return view;
}

/** The fragment that names the view, or nothing for the default. */
export function formatView(view: View): string {
  const given = new URLSearchParams();
  if (view.range !== "all") given.set("range", view.range);
  if (view.range === "dates") {
    given.set("from", view.from ?? "");
    given.set("to", view.to ?? "");
  }
  if (view.hours) given.set("hours", "1");
  if (view.first) given.set("first", "1");
  for (const name of FILTERS) if (view[name]) given.set(name, view[name]);
  const text = given.toString();
  return text && "#" + text;
}

export function filterOf(view: View): Filter {
  return Object.fromEntries(FILTERS.filter((name) => view[name]).map((name) => [name, view[name]]));
}

export function filtered(view: View): boolean {
  return FILTERS.some((name) => view[name]);
}

/** The day of a time zone at a moment, as YYYY-MM-DD. */
export function dayIn(zone: string, ms: number): string {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(ms);
}

/** The hour of the day of a time zone at a moment, 0 to 23. */
export function hourIn(zone: string, ms: number): number {
  return Number(new Intl.DateTimeFormat("en", { timeZone: zone, hour: "numeric", hourCycle: "h23" }).format(ms));
}

/** The moment at which a day of a time zone begins, where zones differ from UTC by whole hours; elsewhere within it. */
export function beginning(zone: string, day: string): number {
  let at = Date.parse(day);
  while (dayIn(zone, at) >= day) at -= HOUR_MS;
  while (dayIn(zone, at) < day) at += HOUR_MS;
  return at;
}

/** Moments for the server, which counts the whole days that hold them; see the guide. */
export interface Period {
  readonly from: number;
  readonly to?: number;
  readonly unit: "hour" | "day";
}

/**
 * The period of a view. Its moments are noons, which are on the day meant in nearly every
 * time zone and the same for everybody who looks, so that a query is run once for all of
 * them; only hours begin and end with their day, to the end of which they are asked for, so that
 * each has the same hour of an earlier day before it. All time is the last days that can be counted,
 * or, with `early`, the first.
 */
export function period(view: View, now: number, zone: string, since: number | null, early = false): Period {
  const today = Date.parse(dayIn(zone, now)) + DAY_MS / 2;
  const midnight = (days: number): number => beginning(zone, dayIn("UTC", today + days * DAY_MS));
  switch (view.range) {
    case "today":
      return { from: midnight(0), to: midnight(1), unit: "hour" };
    case "7":
      if (view.hours) return { from: midnight(-6), to: midnight(1), unit: "hour" };
      return { from: today - 6 * DAY_MS, unit: "day" };
    case "30":
    case "90":
      return { from: today - (Number(view.range) - 1) * DAY_MS, unit: "day" };
    case "dates":
      return dates(view);
    case "all": {
      const first = since === null ? today : Date.parse(dayIn(zone, since)) + DAY_MS / 2;
      if (early) return { from: first, to: Math.min(first + (DAYS_MAX - 1) * DAY_MS, today), unit: "day" };
      return { from: Math.max(first, today - (DAYS_MAX - 1) * DAY_MS), unit: "day" };
    }
  }
}

/** Whether there is more than the days that all time can be about. */
export function isLong(since: number | null, now: number, zone: string): boolean {
  return since !== null && Date.parse(dayIn(zone, now)) - Date.parse(dayIn(zone, since)) >= DAYS_MAX * DAY_MS;
}

function dates(view: View): Period {
  const to = Date.parse(view.to ?? "") + DAY_MS / 2;
  const from = Date.parse(view.from ?? "") + DAY_MS / 2;
  return { from: Math.max(from, to - (DAYS_MAX - 1) * DAY_MS), to, unit: "day" };
}

/** How much more than before, in words: +12 %, −3 %, new; nothing when there is nothing to compare. */
export function change(now: number, before: number | undefined): string {
  if (before === undefined || (before === 0 && now === 0)) return "";
  if (before === 0) return "new";
  const percent = Math.round(((now - before) / before) * 100);
  if (percent === 0) return "±0 %";
  return `${percent > 0 ? "+" : "−"}${new Intl.NumberFormat("en").format(Math.abs(percent))} %`;
}
