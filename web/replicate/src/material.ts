/**
 * How a document is laid out, which is that of npm @trestleinc/replicate: a map "fields" with
 * one entry a field, where prose is a Y.XmlFragment, and a map "_meta" that says whether it was
 * deleted.
 */

import * as Y from "yjs";

/** What a field can hold: JSON, bytes, and undefined for nothing. */
export type Fields = { readonly [name: string]: unknown };

export const fieldsOf = (doc: Y.Doc): Y.Map<unknown> => doc.getMap("fields");
const metaOf = (doc: Y.Doc): Y.Map<unknown> => doc.getMap("_meta");

export const isDeleted = (doc: Y.Doc): boolean => metaOf(doc).get("_deleted") === true;

/** Writes fields that differ from what is there. One that is undefined is removed; prose is never replaced. */
export function writeFields(doc: Y.Doc, fields: Fields): void {
  const map = fieldsOf(doc);
  for (const [name, value] of Object.entries(fields)) {
    const before = map.get(name);
    if (before instanceof Y.AbstractType || same(before, value)) continue;
    if (value === undefined) map.delete(name);
    else map.set(name, value);
  }
}

/** Makes the fragments of prose that are not there. */
export function makeProse(doc: Y.Doc, prose: readonly string[]): void {
  const map = fieldsOf(doc);
  for (const name of prose) if (!(map.get(name) instanceof Y.XmlFragment)) map.set(name, new Y.XmlFragment());
}

export function markDeleted(doc: Y.Doc, at: number): void {
  metaOf(doc).set("_deleted", true);
  metaOf(doc).set("_deletedAt", at);
}

/** Reads the row of a document, or null when it has none: it was deleted, or nothing of it is known. */
export function readRow(document: string, doc: Y.Doc): Fields | null {
  const map = fieldsOf(doc);
  if (map.size === 0 || isDeleted(doc)) return null;
  const row: Record<string, unknown> = { id: document };
  for (const [name, value] of map.entries()) {
    // A field may be called __proto__.
    Object.defineProperty(row, name, { value: plain(value), enumerable: true, configurable: true, writable: true });
  }
  row["id"] = document;
  return row;
}

function plain(value: unknown): unknown {
  if (value instanceof Y.XmlFragment) return proseText(value);
  if (value instanceof Y.AbstractType) return value.toJSON();
  return value;
}

/** The text of prose: one line a block, without marks. */
export function proseText(node: Y.XmlFragment): string {
  const lines: string[] = [];
  collect(node, lines);
  return lines.join("\n");
}

function collect(node: Y.XmlFragment, lines: string[]): void {
  let line: string | undefined;
  for (const child of node.toArray()) {
    if (child instanceof Y.XmlText) {
      let text = line ?? "";
      for (const part of child.toDelta() as { insert: unknown }[]) if (typeof part.insert === "string") text += part.insert;
      line = text;
    } else if (child instanceof Y.XmlFragment) {
      if (line !== undefined) lines.push(line);
      line = undefined;
      if (child.length === 0) lines.push("");
      else collect(child, lines);
    }
  }
  if (line !== undefined) lines.push(line);
}

/** Whether two values are equal as JSON and bytes are. */
export function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof Uint8Array || b instanceof Uint8Array) return a instanceof Uint8Array && b instanceof Uint8Array && sameBytes(a, b);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [x, y] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const names = Object.keys(x);
  return names.length === Object.keys(y).length && names.every((name) => Object.hasOwn(y, name) && same(x[name], y[name]));
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
