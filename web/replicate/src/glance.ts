import * as Y from "yjs";
import type { Fields } from "./material.js";

/** How many operations a document has at most to be read at a glance; a longer history is for a Y.Doc. */
const STRUCTS_MAX = 256;

/**
 * Reads the row of a document from its whole state without making a Y.Doc of it, which takes several times as long. It
 * returns null when there is no row, and undefined when it can't tell, because the document needs Yjs' rules: two wrote
 * one field without knowing of each other, rich text has something in it, or some of the document is missing.
 *
 * The entry of a key of a map is the last of the operations on it. Yjs' rules order those that began at the same place;
 * where each begins at the end of the one before there is but one order.
 */
export function glance(document: string, state: Uint8Array): Fields | null | undefined {
  const { structs, ds } = Y.decodeUpdateV2(state);
  if (structs.length > STRUCTS_MAX) return undefined;
  /** The first operation on each key of each root, and the one that follows on another. */
  const firsts = new Map<string, Map<string, Y.Item>>();
  const following = new Map<string, Y.Item>();
  let [client, clock, items] = [-1, 0, 0];
  for (const struct of structs) {
    if (struct.id.client !== client) [client, clock] = [struct.id.client, 0];
    if (struct.id.clock !== clock || struct instanceof Y.Skip) return undefined;
    clock += struct.length;
    if (!(struct instanceof Y.Item)) continue; // what is forgotten of what was deleted
    items++;
    if (struct.rightOrigin) return undefined;
    if (struct.origin) {
      const place = nameOf(struct.origin.client, struct.origin.clock);
      if (following.has(place)) return undefined;
      following.set(place, struct);
      continue;
    }
    const [root, key] = [struct.parent as unknown, struct.parentSub];
    if (typeof root !== "string" || key === null) return undefined;
    let keys = firsts.get(root);
    if (!keys) firsts.set(root, (keys = new Map()));
    if (keys.has(key)) return undefined;
    keys.set(key, struct);
  }
  const entries = (root: string): [string, Y.Item][] => {
    const found: [string, Y.Item][] = [];
    for (const [key, first] of firsts.get(root) ?? []) {
      let last = first;
      for (let next: Y.Item | undefined = first; next; next = following.get(nameOf(next.id.client, next.id.clock + next.length - 1))) {
        last = next;
        items--;
      }
      // What was written one after the other is one operation to the server, of which the last counts.
      const [client, clock] = [last.id.client, last.id.clock + last.length - 1];
      const gone = last.content instanceof Y.ContentDeleted || ds.clients.get(client)?.some((range) => range.clock <= clock && clock < range.clock + range.len);
      if (!gone) found.push([key, last]);
    }
    return found;
  };
  const [fields, meta] = [entries("fields"), entries("_meta")];
  // Others are elsewhere, or follow what is not in the state.
  if (items > 0) return undefined;
  for (const [key, { content }] of meta) if (key === "_deleted" && lastOf(content) === true) return null;
  if (fields.length === 0) return null;
  const row: Record<string, unknown> = { id: document };
  for (const [name, { content }] of fields) {
    const value = lastOf(content);
    if (value === NONE) return undefined;
    if (name !== "__proto__") row[name] = value;
    else Object.defineProperty(row, name, { value, enumerable: true, configurable: true, writable: true });
  }
  row["id"] = document;
  return row;
}

const NONE = Symbol("none");

/** The plain value of the content of an entry of a map, or NONE where that takes more than a glance. */
function lastOf(content: Y.Item["content"]): unknown {
  if (content instanceof Y.ContentAny) return content.arr[content.arr.length - 1];
  if (content instanceof Y.ContentBinary) return content.content;
  // What is in it would be operations of their own.
  if (content instanceof Y.ContentType && content.type.constructor === Y.XmlFragment) return "";
  return NONE;
}

const nameOf = (client: number, clock: number): string => `${client} ${clock}`;
