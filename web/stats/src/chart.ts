import { byID, Keyed, make, setText } from "./dom.js";
import { counted, dayName, labels, number, scaleTop, type DayViews, type Label } from "./model.js";

/** With fewer days than this the columns keep their width and the rest stays empty. */
const SLOTS_MIN = 10;

/**
 * The bar chart of views by day or by hour. It is a slider to assistive technology: the arrow
 * keys step through the columns and each is read out. A table says the same below it.
 */
export class DayChart {
  readonly #plot = byID("chart");
  readonly #readout = byID("readout");
  readonly #bars: Keyed<DayViews, HTMLElement>;
  readonly #labels: Keyed<Label, HTMLElement>;
  readonly #lines: Keyed<number, HTMLElement>;
  readonly #table: Keyed<DayViews, HTMLTableRowElement>;
  #days: readonly DayViews[] = [];
  #top = 1;
  #room = SLOTS_MIN;
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
    this.#bars = new Keyed<DayViews, HTMLElement>(
      bars,
      ({ day }) => day,
      () => {
        const column = make("div", "column");
        column.append(make("div", "bar-before"), make("div", "bar-fill"));
        return column;
      },
      (column, { day, views, before = 0 }) => {
        const [ghost, fill] = column.children as unknown as [HTMLElement, HTMLElement];
        fill.style.height = `${(views / this.#top) * 100}%`;
        ghost.style.height = `${(before / this.#top) * 100}%`;
        column.classList.toggle("some", views > 0);
        column.classList.toggle("today", day === this.#open);
        column.classList.toggle("chosen", day === this.#chosen);
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
        setText(row.cells[1]!, number(day.visitors));
        setText(row.cells[2]!, number(day.views));
      },
    );

    this.#plot.addEventListener("keydown", (event) => this.#key(event));
    this.#plot.addEventListener("pointermove", (event) => this.#point(event));
    this.#plot.addEventListener("pointerdown", (event) => this.#point(event));
    // A finger leaves when it is lifted, and what it chose is to be read.
    this.#plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#choose(undefined));
    this.#plot.addEventListener("blur", () => this.#choose(undefined));
  }

  /** Shows days or hours, of which `open` is not over yet, with room for so many. */
  show(days: readonly DayViews[], open: string, room: number): void {
    this.#days = days;
    this.#room = Math.max(room, SLOTS_MIN);
    this.#open = open;
    this.#plot.classList.toggle("dense", days.length > 100);
    this.#top = scaleTop(days.reduce((most, { views, before = 0 }) => Math.max(most, views, before), 1));
    this.#table.show([...days].reverse());
    this.#draw();
  }

  #draw(): void {
    const days = this.#days;
    const width = this.#room;
    this.#plot.style.setProperty("--slots", String(width));
    this.#lines.show([0, 0.5, 1]);
    this.#bars.show(days);
    const named = labels(days, width);
    this.#labels.show(named);
    this.#plot.classList.toggle("long-labels", named.some(({ text }) => text.length > 7));
    const index = days.findIndex((day) => day.day === this.#chosen);
    const chosen = days[index];
    const total = days.reduce((sum, day) => sum + day.views, 0);
    const text = chosen
      ? `${dayName(chosen.day)}: ${counted(chosen.views, "view")}${chosen.day === this.#open ? " so far" : ""}` +
        `, ${counted(chosen.visitors, "visitor")}` +
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
    const days = this.#days;
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
    this.#choose(this.#days[index]?.day);
  }
}
