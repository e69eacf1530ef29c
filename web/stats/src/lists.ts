/** The cards that count views by something: pages, sources, countries, devices. */

import { byID, Keyed, make, setText } from "./dom.js";
import { countryName, number, readable } from "./model.js";
import { change } from "./view.js";

/** The result of `stats:getBreakdown`. */
export interface Breakdown {
  rows: Row[];
  values: number;
  views: number;
  visitors: number;
  previous: { rows: Row[]; views: number; visitors: number };
  pending: number;
}

export interface Row {
  value: string;
  views: number;
  visitors?: number;
}

/** A card: what it can count by, and what a row of it narrows the page to. */
export interface CardOptions {
  readonly id: string;
  readonly dimensions: readonly (readonly [dimension: string, label: string])[];
  readonly narrows?: "path" | "country";
  /** Why there may be no rows though there are views. */
  readonly unknown?: string;
  /** Hides the card while it has no rows. */
  readonly optional?: boolean;
}

export const CARDS: readonly CardOptions[] = [
  { id: "top", dimensions: [["path", "Pages"]], narrows: "path" },
  {
    id: "sources",
    dimensions: [
      ["channel", "Channels"],
      ["referrer", "Referrers"],
      ["utmSource", "Sources"],
      ["utmCampaign", "Campaigns"],
    ],
  },
  { id: "countries", dimensions: [["country", "Countries"]], narrows: "country", unknown: "Where these views came from isn’t known." },
  {
    id: "devices",
    dimensions: [
      ["device", "Devices"],
      ["browser", "Browsers"],
      ["system", "Systems"],
    ],
  },
  { id: "events", dimensions: [["event", "Events"]], optional: true },
  { id: "dropped", dimensions: [["dropped", "Not counted"]], optional: true },
];

interface Shown extends Row {
  share: number;
  before: number | undefined;
}

export class Card {
  dimension: string;
  readonly #table: Keyed<Shown, HTMLTableRowElement>;

  constructor(
    readonly options: CardOptions,
    readonly title: (value: string, dimension: string) => string,
    narrow: (value: string) => void,
    readonly changed: () => void,
  ) {
    this.dimension = options.dimensions[0]![0];
    this.#table = new Keyed<Shown, HTMLTableRowElement>(
      byID(options.id).querySelector("tbody")!,
      (row) => row.value,
      (row) => {
        const element = make("tr");
        const head = make("th");
        head.scope = "row";
        const name = make(options.narrows ? "button" : "span", "title");
        if (name instanceof HTMLButtonElement) {
          name.type = "button";
          name.addEventListener("click", () => narrow(row.value));
        }
        head.append(make("span", "share"), name);
        element.append(head, make("td", "num soft"), make("td", "num"), make("td", "num delta"));
        return element;
      },
      (element, row) => {
        const [bar, name] = element.cells[0]!.children as unknown as [HTMLElement, HTMLElement];
        bar.style.width = `${row.share * 100}%`;
        const text = this.title(row.value, this.dimension);
        setText(name, text);
        name.title = (options.narrows ? "Only " : "") + (options.narrows === "path" ? readable(row.value) : row.value);
        setText(element.cells[1]!, row.visitors === undefined ? "" : number(row.visitors));
        setText(element.cells[2]!, number(row.views));
        const delta = change(row.views, row.before);
        setText(element.cells[3]!, delta);
        element.cells[3]!.classList.toggle("less", delta.startsWith("−"));
      },
    );
    if (options.dimensions.length > 1) this.#tabs();
  }

  /**
   * Shows rows, with what they were in the period before, if that is known. Of how many views
   * they are, and how many are to be added, says what it means that there is none.
   */
  show(rows: readonly Row[], previous: readonly Row[] | undefined, values: number, views: number, pending: number): void {
    const before = new Map(previous?.map((row) => [row.value, row.views]));
    const most = Math.max(1, ...rows.map((row) => row.views));
    this.#table.show(
      rows.map((row) => ({ ...row, share: row.views / most, before: previous && (before.get(row.value) ?? 0) })),
    );
    const { id, optional } = this.options;
    byID(id).classList.toggle("compared", previous !== undefined);
    byID(id).hidden = rows.length === 0;
    byID(`${id}-none`).hidden = rows.length > 0;
    const unknown = views > 0 && this.options.unknown;
    setText(byID(`${id}-none`), pending > 0 ? "Still being counted." : unknown || "Nothing yet.");
    byID(`${id}-card`).hidden = optional === true && rows.length === 0;
    setText(byID(`${id}-note`), values > rows.length ? `${number(rows.length)} of ${number(values)}` : "");
  }

  /** The buttons that choose the dimension, as a list of tabs: the arrow keys go through them. */
  #tabs(): void {
    const { id, dimensions } = this.options;
    const list = byID(`${id}-tabs`);
    const tabs = dimensions.map(([dimension, label]) => {
      const tab = make("button", "tab");
      tab.type = "button";
      tab.role = "tab";
      tab.id = `${id}-${dimension}`;
      tab.setAttribute("aria-controls", id);
      tab.textContent = label;
      return tab;
    });
    const choose = (index: number): void => {
      this.dimension = dimensions[index]![0];
      for (const [i, tab] of tabs.entries()) {
        tab.ariaSelected = String(i === index);
        tab.tabIndex = i === index ? 0 : -1;
      }
      byID(id).setAttribute("aria-labelledby", tabs[index]!.id);
    };
    for (const [index, tab] of tabs.entries()) {
      tab.addEventListener("click", () => {
        choose(index);
        this.changed();
      });
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        const next = tabs[(index + step + tabs.length) % tabs.length]!;
        next.focus();
        next.click();
      });
    }
    list.append(...tabs);
    choose(0);
  }
}

/** What a value is called. */
export function valueName(value: string, dimension: string): string {
  if (dimension === "country") return countryName(value);
  const words = value.replace(/^\w/, (letter) => letter.toUpperCase());
  return ["channel", "device"].includes(dimension) ? words : value;
}
