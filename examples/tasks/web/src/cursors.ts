// Where the others are in a note, between the presence of a document and the editor's plugin for cursors.

import { Extension } from "@tiptap/core";
import { yCursorPlugin } from "@tiptap/y-tiptap";
import type { Here, Presence } from "halcyon-replicate";
import type { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";

interface Cursor {
  readonly anchor: unknown;
  readonly head: unknown;
}

interface State {
  readonly user?: { name: string; color: string };
  readonly cursor?: Cursor | null;
}

// What another client says its colour is becomes part of this page: only a colour is taken.
const colorOf = (color: string | undefined): string => (/^#[0-9a-f]{6}$/i.test(color ?? "") ? color! : "#566a75");

/** What the plugin for cursors uses of an awareness, over the presence of the document. */
export class Cursors implements Pick<Awareness, "doc" | "getLocalState"> {
  /** Says where one is, while it is there. */
  here: Here | undefined;
  readonly #field: string;
  readonly #numbers = new Map<string, number>();
  readonly #listeners = new Set<() => void>();
  #local: State = {};
  #others = new Map<number, State>();

  constructor(
    readonly doc: Y.Doc,
    field: string,
  ) {
    this.#field = field;
  }

  getLocalState(): State {
    return this.#local;
  }

  getStates(): ReadonlyMap<number, State> {
    return this.#others;
  }

  /** Is called by the plugin with where one is; `null` is nowhere. */
  setLocalStateField(_: "cursor", cursor: { anchor: Y.RelativePosition; head: Y.RelativePosition } | null): void {
    this.#local = { cursor };
    this.point();
  }

  /** Says again where one is. */
  point(): void {
    const { cursor } = this.#local;
    if (cursor === undefined) return; // one was never in the note
    // Positions hold objects of Yjs' own classes, which the client does not send.
    const json = (position: unknown): unknown => JSON.parse(JSON.stringify(position));
    // Nowhere is a cursor in no field: the server keeps the last one of a client that says none.
    this.here?.point(cursor ? { anchor: json(cursor.anchor), head: json(cursor.head), field: this.#field } : { anchor: null, head: null });
  }

  /** Shows the cursors of others who are in this field. */
  show(others: readonly Presence[]): void {
    this.#others = new Map();
    for (const { client, profile, cursor } of others) {
      if (cursor?.field !== this.#field) continue;
      let number = this.#numbers.get(client);
      if (number === undefined) this.#numbers.set(client, (number = this.#numbers.size + 1));
      this.#others.set(number, { user: { name: profile?.name?.slice(0, 40) || "Somebody", color: colorOf(profile?.color) }, cursor });
    }
    for (const changed of this.#listeners) changed();
  }

  on(_: "change", changed: () => void): void {
    this.#listeners.add(changed);
  }

  off(_: "change", changed: () => void): void {
    this.#listeners.delete(changed);
  }

  /** The extension of the editor that shows them. */
  extension(): Extension {
    return Extension.create({
      name: "cursors",
      addProseMirrorPlugins: () => [
        yCursorPlugin(this as unknown as Awareness, {
          cursorBuilder({ name, color }) {
            const cursor = document.createElement("span");
            cursor.className = "cursor";
            cursor.style.borderColor = color;
            const label = document.createElement("span");
            label.style.background = color;
            label.textContent = name;
            // A word joiner on both sides keeps lines from breaking at the cursor.
            cursor.append("\u2060", label, "\u2060");
            return cursor;
          },
          selectionBuilder: ({ color }) => ({ class: "selected", style: `background: ${color}44` }),
        }),
      ],
    });
  }
}
