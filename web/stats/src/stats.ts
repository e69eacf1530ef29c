import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { DayChart } from "./chart.js";
import { ActiveCurve, type Curve } from "./curve.js";
import { byID, Keyed, make, setText } from "./dom.js";
import { Card, CARDS, valueName, type Breakdown } from "./lists.js";
import { startKey, takeKey } from "./key.js";
import { Live, watchConnection } from "./live.js";
import { WorldMap } from "./map.js";
import {
  counted,
  countryName,
  date,
  dateOf,
  elsewhere,
  number,
  readable,
  rows,
  unvisited,
  type PageStat,
  type PathCount,
  type Series,
  type Stats,
} from "./model.js";
import {
  change,
  dayIn,
  DAYS_MAX,
  filtered,
  filterOf,
  formatView,
  hourIn,
  isLong,
  parseView,
  period,
  type Range,
  type View,
} from "./view.js";
import { isWall, startWall } from "./wall.js";

const query = <Args extends Record<string, unknown>, Result>(name: string) =>
  makeFunctionReference<"query", Args, Result>("stats:" + name);

/** How many rows are shown. */
const WHERE_MAX = 6;
const WHERE_WALL_MAX = 3;
/** A wall that has room for as many as the page. */
const HIGH_WALL = matchMedia("(min-height: 60rem)");
const ROWS_MAX = 10;

/** A screen reader is told who is here at most this often. */
const ANNOUNCE_MS = 15_000;

/** What the server calls these two paths; others have titles only among the top pages. */
const FIXED_TITLES = new Map([
  ["/", "Home"],
  ["/stats", "Stats"],
]);

interface Sites {
  sites: { site: string; synthetic?: boolean }[];
  timeZone: string;
}

/** What the server knew when it made the page; its numbers are on the screen already. */
interface First {
  stats: Stats;
  curve: Curve;
  sites: Sites;
}

/** The lists and the chart are shown all at once, or after this, whatever has not come. */
const REVEAL_MS = 3_000;

takeKey();
let view: View = parseView(location.hash);
let newest: Stats | undefined;
let zone = "UTC";
let series: { result: Series; unit: "hour" | "day" } | undefined;
/** Whether all there is lies further back than can be counted from today, as of an old log that was imported. */
let early = false;
const found = new Map<string, Breakdown>();
const titles = new Map<string, PageStat>();

const chart = new DayChart();
const map = new WorldMap();
const curve = new ActiveCurve();

const where = new Keyed<PathCount & { share: number }, HTMLTableRowElement>(
  byID("where").querySelector("tbody")!,
  (row) => `${row.site ?? ""} ${row.path}`,
  () => {
    const row = make("tr");
    const head = make("th");
    head.scope = "row";
    head.append(make("span", "share"), make("span", "title"));
    row.append(head, make("td", "num"));
    return row;
  },
  (row, { path, count, share }) => {
    const [bar, name] = row.cells[0]!.children as unknown as [HTMLElement, HTMLElement];
    bar.style.width = `${share * 100}%`;
    setText(name, titleOf(path));
    name.title = readable(path);
    setText(row.cells[1]!, number(count));
  },
);

function titleOf(path: string): string {
  const title = titles.get(path)?.title ?? FIXED_TITLES.get(path) ?? path;
  return title === path ? readable(path) : title;
}

const cards = CARDS.map(
  (options) =>
    new Card(
      options,
      (value, dimension) => (dimension === "path" ? titleOf(value) : valueName(value, dimension)),
      (value) => go({ ...view, [options.narrows!]: value }),
      () => ask(),
    ),
);

let announced = -ANNOUNCE_MS;
let announcing: ReturnType<typeof setTimeout> | undefined;

/** Tells a screen reader who is here, not more often than one can listen to. */
function announce(): void {
  clearTimeout(announcing);
  announcing = setTimeout(
    () => {
      announced = performance.now();
      setText(byID("announce"), `${counted(newest?.activeVisitors ?? 0, "visitor")} active now`);
    },
    Math.max(0, announced + ANNOUNCE_MS - performance.now()),
  );
}

function showStats(stats: Stats): void {
  if (newest?.activeVisitors !== stats.activeVisitors) announce();
  // A view of these may be within the last days. Of a page or a country it can't be told whose it was.
  if (newest?.totalPageViews !== stats.totalPageViews && !view.path && !view.country) early = false;
  newest = stats;
  // The answer for one site has no pages.
  for (const page of stats.pageStats) titles.set(page.path, page);

  setText(byID("active"), number(stats.activeVisitors));
  setText(byID("active-unit"), stats.activeVisitors === 1 ? "visitor" : "visitors");
  document.title = `${number(stats.activeVisitors)} active · Live statistics`;
  byID("active").classList.toggle("someone", stats.activeVisitors > 0);
  curve.now(stats.activeVisitors);
  map.show(stats.visitorLocations, stats.activeVisitors);

  const on = stats.activeByPath.filter((row) => !view.site || row.site === view.site);
  const top = on[0]?.count ?? 1;
  const most = isWall() && !HIGH_WALL.matches ? WHERE_WALL_MAX : WHERE_MAX;
  const shown = on.slice(0, most);
  where.show(shown.map((row) => ({ ...row, share: row.count / top })));
  byID("where").hidden = on.length === 0;
  byID("where-none").hidden = on.length > 0;
  const rest = elsewhere({ ...stats, activeByPath: on }, shown);
  byID("where-more").hidden = rest.pages === 0;
  setText(byID("where-more"), `and ${counted(rest.visitors, "visitor")} on ${counted(rest.pages, "more page")}`);

  setText(byID("views"), number(stats.totalPageViews));
  setText(byID("visitors"), number(stats.uniqueVisitors));
  setText(byID("posts"), number(stats.publishedPosts));
  setText(byID("pages"), number(stats.publishedPages));
  setText(byID("since"), stats.trackingSince === null ? "Not yet" : date(stats.trackingSince, zone));
  showFirst();
  byID("start").hidden = view.site !== undefined || !unvisited(stats);
  byID("main").ariaBusy = "false";
  document.documentElement.classList.remove("narrowed");
  showCards();
  ask();
}

/** Whether the page is about everything ever counted, which getStats knows by itself. */
function everything(): boolean {
  return view.range === "all" && !filtered(view);
}

function showCards(): void {
  const pages = newest?.pageStats ?? [];
  // A path of two sites is two pages there, and one in what is counted by path.
  const severalSites = pages.some(({ site }) => site !== pages[0]!.site);
  for (const card of cards) {
    const result = found.get(card.options.id);
    if (card.options.id === "top" && everything() && !severalSites) {
      const visitors = new Map(result?.rows.map((row) => [row.value, row.visitors]));
      const shown = pages.slice(0, ROWS_MAX).map(({ path, views }) => {
        const known = visitors.get(path);
        return { value: path, views, ...(known === undefined ? {} : { visitors: known }) };
      });
      card.show(shown, undefined, Math.max(newest?.totalPaths ?? 0, shown.length), 0, 0);
    } else if (result) {
      card.show(result.rows, view.range === "all" ? undefined : result.previous.rows, result.values, result.views, result.pending);
    }
  }
}

/** The chart and the line above it. */
function showChart(): void {
  if (!series) return;
  const { result, unit } = series;
  const now = Date.now();
  const today = dayIn(zone, now);
  const all = rows(result, unit, now, view.range !== "all");
  const total = all.reduce((sum, { views }) => sum + views, 0);
  // An old log is of few days, and the hundreds of empty ones after them say nothing.
  const last = isEarly() ? all.map(({ views }) => views > 0).lastIndexOf(true) : all.length - 1;
  const shown = total > 0 ? all.slice(0, last + 1) : [];
  for (const id of ["chart", "readout", "days-table"]) byID(id).hidden = shown.length === 0;
  byID("days-none").hidden = shown.length > 0;
  setText(
    byID("days-none"),
    result.pending > 0 ? "The views are still being counted, and draw their columns in a moment." : "No views here. The first one draws the first column.",
  );
  chart.show(
    shown,
    unit === "hour" ? `${today}T${String(hourIn(zone, now)).padStart(2, "0")}:00Z` : today,
    isEarly() ? shown.length : result.points.length,
  );
  setText(byID("days-title"), unit === "hour" ? "Views by hour" : "Views by day");
  setText(byID("days-unit"), `${unit === "hour" ? "Hour" : "Day"} (${zone})`);
  const sums = found.get("top");
  const pending = sums?.pending ?? 0;
  const parts: string[] = [];
  if (!everything() && sums && (sums.views > 0 || pending === 0)) {
    parts.push(counted(sums.views, "view"), counted(sums.visitors, "visitor"));
    if (view.range !== "all") parts.push(onBefore(sums));
  }
  if (view.range === "all" && result.points.length >= DAYS_MAX) {
    const empty = shown.length > 0 && shown.length < all.length;
    parts.push(`the ${isEarly() ? "first" : "last"} ${DAYS_MAX} days${empty ? `, empty after ${dateOf(shown.at(-1)!.day)}` : ""}`);
    const others = (newest?.totalPageViews ?? 0) - total;
    if (pending === 0 && others > 0 && !view.path && !view.country) {
      parts.push(counted(others, isEarly() ? "later view" : "earlier view"));
    }
  }
  parts.push(`in ${zone}`);
  if (pending > 0) parts.push(`${counted(pending, "view")} still being counted`);
  setText(byID("days-note"), parts.join(" · "));
}

/** How many views there are, compared with the period before. */
function onBefore({ views, previous }: Breakdown): string {
  if (previous.views === 0) return "none in the period before";
  return `${change(views, previous.views)} views on the period before`;
}

/** Whether the chart and the lists are of the first days there are, and not of the last. */
function isEarly(): boolean {
  return view.range === "all" && (early || view.first === true);
}

/** The button for the first days of all time, where these are not the last ones, nor shown for lack of others. */
function showFirst(): void {
  const button = byID<HTMLButtonElement>("first-days");
  button.hidden = view.range !== "all" || early || !isLong(newest?.trackingSince ?? null, Date.now(), zone);
  button.ariaPressed = String(view.first === true);
}

/** Shows what the boot script has kept from the first frame: it would push about what is below it. */
function reveal(): void {
  document.documentElement.classList.remove("early");
}

function revealWhenThere(): void {
  if (series && cards.every(({ options }) => found.has(options.id))) reveal();
}

function go(next: View): void {
  view = next;
  early = false;
  history.replaceState(null, "", location.pathname + location.search + formatView(view));
  showFilters();
  if (newest) showStats(newest);
  ask();
  showChart();
}

function showFilters(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("#ranges button")) {
    button.ariaPressed = String(button.dataset["range"] === view.range);
  }
  const hours = byID<HTMLButtonElement>("hours");
  hours.hidden = view.range !== "7";
  hours.ariaPressed = String(view.hours === true);
  showFirst();
  byID("dates").hidden = view.range !== "dates";
  if (view.range === "dates") {
    byID<HTMLInputElement>("from").value = view.from ?? "";
    byID<HTMLInputElement>("to").value = view.to ?? "";
  }
  byID<HTMLSelectElement>("site").value = view.site ?? "";
  for (const name of ["path", "country"] as const) {
    const value = view[name];
    byID(`${name}-chip`).hidden = !value;
    setText(byID(`${name}-value`), value ? (name === "path" ? readable(value) : countryName(value)) : "");
  }
}

let ask = (): void => {};

function start(): void {
  const snippet = `<script defer src="${location.origin}/track.js"></script>`;
  setText(byID("snippet"), snippet);
  const copy = byID("copy");
  copy.addEventListener("click", () => {
    void navigator.clipboard.writeText(snippet).then(
      () => setText(copy, "Copied"),
      () => setText(copy, "Select and copy by hand"),
    );
  });

  byID("ranges").addEventListener("click", (event) => {
    const range = (event.target as HTMLElement).dataset["range"] as Range | undefined;
    if (!range) return;
    const today = dayIn(zone, Date.now());
    const { from, to, hours, first, ...rest } = view;
    go({ ...rest, range, ...(range === "dates" ? { from: from ?? today, to: to ?? today } : {}), ...(hours ? { hours } : {}) });
  });
  byID("hours").addEventListener("click", () => {
    const { hours, ...rest } = view;
    go(hours ? rest : { ...rest, hours: true });
  });
  byID("first-days").addEventListener("click", () => {
    const { first, ...rest } = view;
    go(first ? rest : { ...rest, first: true });
  });
  for (const name of ["from", "to"] as const) {
    byID<HTMLInputElement>(name).addEventListener("change", (event) => {
      const day = (event.target as HTMLInputElement).value;
      if (!day) return;
      const next = { ...view, [name]: day };
      if (next.from! > next.to!) next.from = next.to = day;
      go(next);
    });
  }
  const without = (name: "site" | "path" | "country"): View => {
    const { [name]: _, ...rest } = view;
    return rest;
  };
  for (const name of ["path", "country"] as const) {
    byID(`${name}-chip`).addEventListener("click", () => {
      go(without(name));
      // It is gone, and who is at the keyboard stays where it was.
      document.querySelector<HTMLElement>("#ranges [aria-pressed=true]")?.focus();
    });
  }
  const sites = byID<HTMLSelectElement>("site");
  sites.addEventListener("change", () => go(sites.value ? { ...view, site: sites.value } : without("site")));
  window.addEventListener("hashchange", () => {
    if (takeKey()) Live.again();
    go(parseView(location.hash));
  });
  startKey(() => Live.again());
  startWall(() => newest && showStats(newest));
  HIGH_WALL.addEventListener("change", () => newest && showStats(newest));

  const client = new ConvexClient(location.origin, {
    skipConvexDeploymentUrlCheck: true,
    unsavedChangesWarning: false,
  });
  watchConnection(client);
  const now = new Live(client, query<{ site?: string }, Stats>("getStats"), "The statistics", showStats);
  const askNow = (): void => now.ask(view.site ? { site: view.site } : {});
  askNow();
  const showSites = (result: Sites): void => {
    zone = result.timeZone;
    byID("site-choice").hidden = result.sites.length < 2 && !view.site;
    sites.replaceChildren(
      new Option("All sites", ""),
      ...result.sites
        .map(({ site, synthetic }) => new Option(synthetic ? `${site} (made up)` : site || "without a name", site))
        .filter((option) => option.value),
    );
    const madeUp = result.sites.find(({ synthetic }) => synthetic);
    byID("made-up").hidden = !madeUp;
    if (madeUp) byID("made-up-site").textContent = madeUp.site;
    showFilters();
    if (newest) showStats(newest);
    else ask();
  };
  new Live(client, query<Record<string, never>, Sites>("getSites"), "The sites", showSites).ask({});

  const curves = new Live(client, query<{ site?: string }, Curve>("getActiveCurve"), "The curve", (result) => curve.show(result));
  let unit: "hour" | "day" = "day";
  const inTime = new Live(client, query<Record<string, string | number>, Series>("getSeries"), "The chart", (result) => {
    series = { result, unit };
    const none = result.pending === 0 && result.points.every(({ views }) => views === 0);
    if (none && !isEarly() && view.range === "all" && isLong(newest!.trackingSince, Date.now(), zone)) {
      early = true;
      showFirst();
      ask();
    } else showChart();
    revealWhenThere();
  });
  const lists = cards.map((card) => ({
    card,
    live: new Live(
      client,
      query<Record<string, string | number>, Breakdown>("getBreakdown"),
      card.options.dimensions[0]![1],
      (result: Breakdown) => {
        found.set(card.options.id, result);
        showCards();
        if (card.options.id === "top") showChart();
        revealWhenThere();
      },
    ),
  }));

  ask = () => {
    askNow();
    if (!newest) return;
    const { from, to, unit: wanted } = period(view, Date.now(), zone, newest.trackingSince, isEarly());
    const filter = filterOf(view);
    const args = { ...filter, from, ...(to === undefined ? {} : { to }) };
    curves.ask(view.site ? { site: view.site } : {});
    unit = wanted;
    inTime.ask({ ...args, unit });
    for (const { card, live } of lists) live.ask({ ...args, dimension: card.dimension, limit: ROWS_MAX });
  };
  showFilters();
  setTimeout(reveal, REVEAL_MS);
  // The server does not know what the address narrows the page to.
  const first = document.getElementById("first")?.textContent;
  if (first && !view.site) {
    const { stats, curve: points, sites } = JSON.parse(first) as First;
    showSites(sites);
    curve.show(points);
    showStats(stats);
  }
  // Ranges that end today begin a day later each day, and each hour has a column.
  setInterval(() => {
    ask();
    showChart();
  }, 60_000);
}

start();
