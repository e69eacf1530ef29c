/** The curve of active visitors over two hours. */

import { byID, setText } from "./dom.js";
import { counted, number } from "./model.js";

/** The result of `stats:getActiveCurve`. */
export interface Curve {
  points: { time: number; active: number }[];
}

const WIDTH = 119;
const HEIGHT = 40;

/** The outline of the curve, from left to right, as an SVG path on 119 by 40. */
export function outline(values: readonly number[]): string {
  const top = Math.max(1, ...values);
  const step = WIDTH / Math.max(1, values.length - 1);
  return values
    .map((value, i) => `${i ? "L" : "M"}${(i * step).toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1)}`)
    .join("");
}

export class ActiveCurve {
  #values: number[] = [];
  #active = 0;

  show(curve: Curve): void {
    this.#values = curve.points.map((point) => point.active);
    this.#draw();
  }

  /** The newest minute is not over: its value is who is here now. */
  now(active: number): void {
    this.#active = active;
    this.#draw();
  }

  #draw(): void {
    if (this.#values.length === 0) return;
    const values = [...this.#values.slice(0, -1), this.#active];
    const line = outline(values);
    byID("curve-line").setAttribute("d", line);
    byID("curve-area").setAttribute("d", `${line}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
    const peak = Math.max(...values);
    setText(byID("curve-peak"), peak === 0 ? "" : `peak ${number(peak)}`);
    byID("curve").setAttribute(
      "aria-label",
      `The last two hours: at most ${counted(peak, "visitor")} at once, at least ${number(Math.min(...values))}, now ${number(this.#active)}`,
    );
  }
}
