import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { DayChart } from "./chart.js";
import { byID, Keyed, make, setText } from "./dom.js";
import {
  counted,
  date,
  link,
  number,
  places,
  serverSaid,
  typeName,
  unvisited,
  type DayViews,
  type PageStat,
  type PathCount,
  type Stats,
} from "./model.js";

const getStats = makeFunctionReference<"query", Record<string, never>, Stats>("stats:getStats");
const getViewsByDay = makeFunctionReference<"query", Record<string, never>, DayViews[]>("stats:getViewsByDay");

/** How many rows are shown before the reader asks for all. */
const WHERE_MAX = 7;
const TOP_MAX = 15;
const PLACES_MAX = 15;

/** What the server calls these two paths; others have titles only among the top pages. */
const FIXED_TITLES = new Map([
  ["/", "Home"],
  ["/stats", "Stats"],
]);

/** A connection lost for less than this is not worth a word. */
const RECONNECTING_AFTER_MS = 1_000;

const titles = new Map<string, PageStat>();
let newest: Stats | undefined;
let allPages = false;

function cells(...classes: string[]): HTMLTableRowElement {
  const row = make("tr");
  const head = make("th");
  head.scope = "row";
  row.append(head, ...classes.map((name) => make("td", name)));
  return row;
}

/** Fills the cell that names a page: its title, and its path below when that says more. */
function namePage(cell: Element, page: PageStat): void {
  const href = link(page, location.origin);
  let name = cell.querySelector(".title");
  if (!name || (name instanceof HTMLAnchorElement) !== (href !== undefined)) {
    name = make(href === undefined ? "span" : "a", "title");
    cell.replaceChildren(name, make("span", "path"));
  }
  if (name instanceof HTMLAnchorElement && href !== undefined && name.href !== href) name.href = href;
  setText(name, page.title);
  setText(cell.lastElementChild!, page.title === page.path ? "" : page.path);
}

const where = new Keyed<PathCount & { share: number }, HTMLTableRowElement>(
  byID("where").querySelector("tbody")!,
  (row) => row.path,
  () => {
    const row = cells("num");
    row.cells[0]!.append(make("span", "share"), make("span", "title"));
    return row;
  },
  (row, { path, count, share }) => {
    const [bar, name] = row.cells[0]!.children as unknown as [HTMLElement, HTMLElement];
    bar.style.width = `${share * 100}%`;
    setText(name, titles.get(path)?.title ?? FIXED_TITLES.get(path) ?? path);
    name.title = path;
    setText(row.cells[1]!, number(count));
  },
);

const top = new Keyed<PageStat, HTMLTableRowElement>(
  byID("top").querySelector("tbody")!,
  (page) => page.path,
  () => cells("type", "num"),
  (row, page) => {
    namePage(row.cells[0]!, page);
    setText(row.cells[1]!, typeName(page.pageType));
    setText(row.cells[2]!, number(page.views));
  },
);

const placeRows = new Keyed<{ name: string; count: number }, HTMLTableRowElement>(
  byID("places").querySelector("tbody")!,
  (place) => place.name,
  () => cells("num"),
  (row, place) => {
    setText(row.cells[0]!, place.name);
    setText(row.cells[1]!, number(place.count));
  },
);

function show(stats: Stats): void {
  newest = stats;
  titles.clear();
  for (const page of stats.pageStats) titles.set(page.path, page);

  setText(byID("active"), number(stats.activeVisitors));
  setText(byID("active-unit"), stats.activeVisitors === 1 ? "visitor" : "visitors");
  document.title = `${number(stats.activeVisitors)} active · Live statistics`;
  byID("active").classList.toggle("someone", stats.activeVisitors > 0);

  const most = Math.max(1, ...stats.activeByPath.map((row) => row.count));
  where.show(stats.activeByPath.slice(0, WHERE_MAX).map((row) => ({ ...row, share: row.count / most })));
  byID("where").hidden = stats.activeByPath.length === 0;
  byID("where-none").hidden = stats.activeByPath.length > 0;
  const rest = stats.activeByPath.slice(WHERE_MAX);
  byID("where-more").hidden = rest.length === 0;
  const others = rest.reduce((sum, row) => sum + row.count, 0);
  setText(byID("where-more"), `and ${counted(others, "visitor")} on ${counted(rest.length, "more page")}`);

  setText(byID("views"), number(stats.totalPageViews));
  setText(byID("visitors"), number(stats.uniqueVisitors));
  setText(byID("posts"), number(stats.publishedPosts));
  setText(byID("pages"), number(stats.publishedPages));
  setText(byID("since"), stats.trackingSince === null ? "Not yet" : date(stats.trackingSince));

  byID("start").hidden = !unvisited(stats);

  const shown = allPages ? stats.pageStats : stats.pageStats.slice(0, TOP_MAX);
  byID("top-card").hidden = stats.pageStats.length === 0;
  top.show(shown);
  const paths = Math.max(stats.totalPaths, stats.pageStats.length);
  setText(
    byID("top-note"),
    shown.length < paths ? `${number(shown.length)} of ${counted(paths, "page")}` : counted(paths, "page"),
  );
  const more = byID("top-more");
  more.hidden = stats.pageStats.length <= TOP_MAX;
  setText(more, allPages ? "Show fewer" : `Show ${number(stats.pageStats.length)} pages`);

  const located = places(stats.visitorLocations);
  byID("places-card").hidden = located.length === 0;
  placeRows.show(located.slice(0, PLACES_MAX));

  byID("main").ariaBusy = "false";
}

byID("top-more").addEventListener("click", () => {
  allPages = !allPages;
  if (newest) show(newest);
});

/** Says how the connection is, once that has lasted long enough to matter. */
function watchConnection(client: ConvexClient): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const say = (state: string, text: string): void => {
    const pill = byID("link");
    if (pill.dataset["state"] === state) return;
    pill.dataset["state"] = state;
    setText(byID("link-text"), text);
  };
  client.subscribeToConnectionState(({ isWebSocketConnected, hasEverConnected }) => {
    if (isWebSocketConnected) {
      clearTimeout(timer);
      timer = undefined;
      say("live", "Live");
    } else {
      timer ??= setTimeout(
        () => (hasEverConnected ? say("lost", "Reconnecting") : say("lost", "Trying to connect")),
        RECONNECTING_AFTER_MS,
      );
    }
  });
}

/** A query that fails says so on the page; the next good result takes it back. */
class Troubles {
  readonly #texts = new Map<string, string>();

  set(query: string, error: Error | undefined): void {
    if (error) this.#texts.set(query, serverSaid(error.message));
    else this.#texts.delete(query);
    const box = byID("trouble");
    box.hidden = this.#texts.size === 0;
    setText(box, [...this.#texts].map(([name, text]) => `${name} can’t be read just now. The server said: ${text}`).join("\n"));
  }
}

function start(): void {
  const snippet = `<script defer src="${location.origin}/track.js"></script>`;
  setText(byID("snippet"), snippet);
  const copy = byID("copy");
  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", () => {
    void navigator.clipboard.writeText(snippet).then(
      () => setText(copy, "Copied"),
      () => setText(copy, "Select and copy by hand"),
    );
  });

  const client = new ConvexClient(location.origin, {
    skipConvexDeploymentUrlCheck: true,
    unsavedChangesWarning: false,
  });
  const troubles = new Troubles();
  const chart = new DayChart();
  watchConnection(client);
  client.onUpdate(
    getStats,
    {},
    (stats) => {
      troubles.set("The statistics", undefined);
      show(stats);
    },
    (error) => troubles.set("The statistics", error),
  );
  client.onUpdate(
    getViewsByDay,
    {},
    (days) => {
      troubles.set("The views by day", undefined);
      byID("days-card").hidden = days.length === 0;
      chart.show(days);
    },
    (error) => troubles.set("The views by day", error),
  );
}

start();
