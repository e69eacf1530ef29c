import assert from "node:assert/strict";
import { test } from "node:test";
import { Window } from "happy-dom";
import { Keyed } from "../src/dom.js";

test("a row that climbs past others keeps the focus", () => {
  const window = new Window();
  Object.assign(globalThis, { document: window.document });
  const list = document.createElement("ul");
  document.body.append(list);
  const rows = new Keyed<string, HTMLLIElement>(
    list,
    (name) => name,
    (name) => {
      const row = document.createElement("li");
      const button = document.createElement("button");
      button.textContent = name;
      row.append(button);
      return row;
    },
    () => {},
  );
  const lists = ["abcd", "dabc", "bdac", "dxyb", "xyzd", "d", "cbad", "dcba"];
  rows.show([...lists[0]!]);
  const focused = list.querySelector<HTMLElement>("li:last-child button")!;
  focused.focus();
  let lost = 0;
  focused.addEventListener("blur", () => lost++);
  // A browser takes the focus from what is moved; this one does not.
  const moved = new Set<Node>();
  const insert = list.insertBefore.bind(list);
  list.insertBefore = <N extends Node>(node: N, next: Node | null): N => (moved.add(node), insert(node, next));
  for (const names of lists) {
    rows.show([...names]);
    assert.equal(list.textContent, names);
    assert.equal(document.activeElement, focused, names);
    assert.ok(!moved.has(focused.parentElement!), `${names}: the row with the focus was moved`);
  }
  assert.equal(lost, 0);
});
