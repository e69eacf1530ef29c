import assert from "node:assert/strict";
import { test } from "node:test";
import { outline } from "../src/curve.js";
import { spots } from "../src/map.js";

test("visitors of one place are one spot, zero is a coordinate, and countries have names", () => {
  const found = spots([
    { latitude: 0, longitude: 0 },
    { latitude: 47, longitude: 8.5, city: "Zürich", country: "CH" },
    { latitude: 47, longitude: 8.5, city: "Zürich", country: "CH", count: 3 },
    { latitude: -33.9, longitude: -70.7, country: "Nowhere" },
  ]);
  assert.deepEqual(
    found.map(({ name, count }) => [name, count]),
    [
      ["Zürich, Switzerland", 4],
      ["Nowhere", 1],
      ["0.0° N, 0.0° E", 1],
    ],
  );
});

test("who is only known to be in a country is somewhere in it, and is not one with who is in its middle", () => {
  const middle = { latitude: 46.8, longitude: 8.2, country: "CH" };
  const found = spots([{ ...middle, countryOnly: true }, middle, { ...middle, countryOnly: true }]);
  assert.deepEqual(
    found.map(({ name, count, vague }) => [name, count, vague]),
    [
      ["Somewhere in Switzerland", 2, true],
      ["Switzerland", 1, false],
    ],
  );
});

test("spots lie on the map, the poles at its edge", () => {
  const place = ([latitude, longitude]: [number, number]): number[] => {
    const { x, y } = spots([{ latitude, longitude }])[0]!;
    return [x, Number(y.toFixed(3))];
  };
  assert.deepEqual([place([84, -180]), place([13, 0]), place([-58, 180]), place([90, 0]), place([-90, 0])], [
    [0, 0],
    [0.5, 0.5],
    [1, 1],
    [0.5, 0],
    [0.5, 1],
  ]);
});

test("the curve reaches from side to side and its peak to the top", () => {
  assert.equal(outline([0, 2, 1]), "M0.0 39.0L59.5 2.0L119.0 20.5");
  assert.equal(outline([0, 0]), "M0.0 39.0L119.0 39.0");
});
