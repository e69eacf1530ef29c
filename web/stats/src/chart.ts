import { byID, Keyed, make, setText } from "./dom.js";
import { counted, dayName, labels, number, scaleTop, slots, type DayViews, type Label, type Slot } from "./model.js";

/** At most so many columns: 400 days, or a week of hours. */
const SLOTS_MAX = 400;
/** With fewer days than this the columns keep their width and the rest stays empty. */
const SLOTS_MIN = 10;

/**
 * The bar chart of views by day or by hour. It is a slider to assistive technology: the arrow
 * keys step through the columns and each is read out. A table says the same below it.
 */
export class DayChart {
  readonly #plot = byID("chart");
  readonly #readout = byID("readout");
  readonly #bars: Keyed<Slot, HTMLElement>;
  readonly #labels: Keyed<Label, HTMLElement>;
  readonly #lines: Keyed<number, HTMLElement>;
  readonly #table: Keyed<DayViews, HTMLTableRowElement>;
  #slots: Slot[] = [];
  #top = 1;
  #open = "";
  #chosen: string | undefined;

  constructor() {
    const lines = make("div", "lines");
    const bars = make("div", "bars");
    const labels = make("div", "labels");
    for (const part of [lines, bars, labels]) part.ariaHidden = "true";
    this.#plot.append(lines, bars, labels);
    this.#plot.role = "slider";
    this.#plot.ariaOrientation = "horizontal";

    this.#lines = new Keyed<number, HTMLElement>(
      lines,
      (share) => String(share),
      (share) => {
        const line = make("div", "line");
        line.style.bottom = `${share * 100}%`;
        line.append(make("span"));
        return line;
      },
      (line, share) => setText(line.firstElementChild!, number(share * this.#top)),
    );
    this.#bars = new Keyed<Slot, HTMLElement>(
      bars,
      slotKey,
      (slot) => {
        const column = make("div", slot.kind === "gap" ? "column gap" : "column");
        column.append(make("div", "bar-before"), make("div", "bar-fill"));
        return column;
      },
      (column, slot) => {
        const { views = 0, before = 0 } = slot.kind === "day" ? slot : {};
        const [ghost, fill] = column.children as unknown as [HTMLElement, HTMLElement];
        fill.style.height = `${(views / this.#top) * 100}%`;
        ghost.style.height = `${(before / this.#top) * 100}%`;
        column.classList.toggle("some", views > 0);
        column.classList.toggle("today", slotKey(slot) === this.#open);
        column.classList.toggle("chosen", slotKey(slot) === this.#chosen);
      },
    );
    this.#labels = new Keyed<Label, HTMLElement>(
      labels,
      (label) => `${label.text} ${label.side}`,
      (label) => make("span", `at-${label.side}`),
      (element, label) => {
        element.style.left = `${label.at * 100}%`;
        setText(element, label.text);
      },
    );
    this.#table = new Keyed<DayViews, HTMLTableRowElement>(
      byID("days").querySelector("tbody")!,
      (day) => day.day,
      () => {
        const row = make("tr");
        const head = make("th");
        head.scope = "row";
        row.append(head, make("td", "num"), make("td", "num"));
        return row;
      },
      (row, day) => {
        setText(row.cells[0]!, dayName(day.day));
        setText(row.cells[1]!, day.visitors === undefined ? "" : number(day.visitors));
        setText(row.cells[2]!, number(day.views));
      },
    );

    this.#plot.addEventListener("keydown", (event) => this.#key(event));
    this.#plot.addEventListener("pointermove", (event) => this.#point(event));
    this.#plot.addEventListener("pointerdown", (event) => this.#point(event));
    this.#plot.addEventListener("pointerleave", () => this.#choose(undefined));
    this.#plot.addEventListener("blur", () => this.#choose(undefined));
  }

  /** Shows days or hours, of which `open` is not over yet. */
  show(days: readonly DayViews[], unit: "hour" | "day", open: string): void {
    this.#slots = unit === "hour" ? days.map((row) => ({ kind: "day", ...row })) : slots(days, SLOTS_MAX);
    this.#open = open;
    this.#plot.classList.toggle("dense", this.#slots.length > 100);
    this.#top = scaleTop(Math.max(1, ...this.#days().map((day) => Math.max(day.views, day.before ?? 0))));
    const first = this.#days()[0]?.day ?? "";
    this.#table.show(days.filter((day) => day.day >= first).reverse());
    this.#draw();
  }

  #days(): DayViews[] {
    return this.#slots.filter((slot) => slot.kind === "day");
  }

  #draw(): void {
    const width = Math.max(this.#slots.length, SLOTS_MIN);
    this.#plot.style.setProperty("--slots", String(width));
    this.#lines.show([0, 0.5, 1]);
    this.#bars.show(this.#slots);
    this.#labels.show(labels(this.#slots, width));
    const days = this.#days();
    const index = days.findIndex((day) => day.day === this.#chosen);
    const chosen = days[index];
    const total = days.reduce((sum, day) => sum + day.views, 0);
    const text = chosen
      ? `${dayName(chosen.day)}: ${counted(chosen.views, "view")}${chosen.day === this.#open ? " so far" : ""}` +
        (chosen.visitors === undefined ? "" : `, ${counted(chosen.visitors, "visitor")}`) +
        (chosen.before === undefined ? "" : `; ${number(chosen.before)} in the period before`)
      : `${counted(total, "view")} in what is shown`;
    setText(this.#readout, text);
    this.#plot.ariaValueMin = "1";
    this.#plot.ariaValueMax = String(days.length);
    this.#plot.ariaValueNow = String(index < 0 ? days.length : index + 1);
    this.#plot.ariaValueText = text;
  }

  #choose(day: string | undefined): void {
    if (day === this.#chosen) return;
    this.#chosen = day;
    this.#draw();
  }

  #key(event: KeyboardEvent): void {
    const days = this.#days();
    const last = days.length - 1;
    const now = days.findIndex((day) => day.day === this.#chosen);
    const at = now < 0 ? days.length : now;
    const next = new Map([
      ["ArrowLeft", at - 1],
      ["ArrowDown", at - 1],
      ["ArrowRight", at + 1],
      ["ArrowUp", at + 1],
      ["PageUp", at - 7],
      ["PageDown", at + 7],
      ["Home", 0],
      ["End", last],
    ]).get(event.key);
    if (next === undefined) return;
    event.preventDefault();
    this.#choose(days[Math.min(Math.max(next, 0), last)]?.day);
  }

  #point(event: PointerEvent): void {
    const column = event.target instanceof Element ? event.target.closest(".column") : null;
    const index = column ? [...column.parentElement!.children].indexOf(column) : -1;
    const slot = this.#slots[index];
    this.#choose(slot?.kind === "day" ? slot.day : undefined);
  }
}

function slotKey(slot: Slot): string {
  return slot.kind === "day" ? slot.day : `after ${slot.after}`;
}
