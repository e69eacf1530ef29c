/** The map: dots on the land where visitors are. */

import { byID, Keyed, make, setText } from "./dom.js";
import { counted, countries, number, placeName, type Place } from "./model.js";

/** The part of the world that the land's picture shows, in degrees; web/build/land.go has the same. */
const NORTH = 84;
const SOUTH = -58;

/** The countries that are named below the map. */
const COUNTRIES_MAX = 10;

interface Spot {
  key: string;
  name: string;
  /** No more is known than the country: it is somewhere around here. */
  vague: boolean;
  count: number;
  x: number;
  y: number;
}

/** The visitors of each place as one spot, in shares of the map. */
export function spots(places: readonly Place[]): Spot[] {
  const found = new Map<string, Spot>();
  for (const place of places) {
    const key = `${place.latitude},${place.longitude}${place.countryOnly ? " or so" : ""}`;
    const spot = found.get(key);
    if (spot) {
      spot.count += place.count ?? 1;
      continue;
    }
    const latitude = Math.min(Math.max(place.latitude, SOUTH), NORTH);
    found.set(key, {
      key,
      name: placeName(place),
      vague: place.countryOnly ?? false,
      count: place.count ?? 1,
      x: (place.longitude + 180) / 360,
      y: (NORTH - latitude) / (NORTH - SOUTH),
    });
  }
  return [...found.values()].sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1));
}

/** A number in 0..1 that stays the same for a text, so that dots do not pulse in step. */
function phase(text: string): number {
  let sum = 0;
  for (let i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) % 997;
  return sum / 997;
}

export class WorldMap {
  readonly #dots = new Keyed<Spot, HTMLLIElement>(
    byID("dots"),
    (spot) => spot.key,
    (spot) => {
      const dot = make("li", spot.vague ? "spot vague" : "spot");
      dot.style.left = `${spot.x * 100}%`;
      dot.style.top = `${spot.y * 100}%`;
      dot.style.setProperty("--phase", `${-phase(spot.key) * 3}s`);
      dot.append(make("span", "unseen"));
      return dot;
    },
    (dot, spot) => {
      const text = `${spot.name}: ${counted(spot.count, "visitor")}`;
      setText(dot.firstElementChild!, text);
      if (dot.title !== text) dot.title = text;
      dot.style.setProperty("--size", String(Math.min(1 + Math.log2(spot.count) * 0.28, 3.2)));
    },
  );

  readonly #countries = new Keyed<[string, number], HTMLLIElement>(
    byID("countries-now"),
    ([name]) => name,
    ([name]) => {
      const item = make("li");
      item.append(make("b"), " " + name);
      return item;
    },
    (item, [, visitors]) => setText(item.firstElementChild!, number(visitors)),
  );

  show(places: readonly Place[], active: number): void {
    const found = spots(places);
    this.#dots.show(found);
    const named = countries(places);
    this.#countries.show(named.slice(0, COUNTRIES_MAX));
    byID("countries-now").hidden = named.length === 0;
    const located = found.reduce((sum, spot) => sum + spot.count, 0);
    setText(byID("map-note"), located === 0 ? "" : `${number(located)} of ${counted(active, "visitor")} placed`);
    byID("map-none").hidden = located > 0 || active > 0;
    byID("map-unplaced").hidden = located > 0 || active === 0;
  }
}
