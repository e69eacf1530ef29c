/** The hooks of React for collections. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import type * as Y from "yjs";
import type { Collection, Status } from "./collection.js";
import type { SyncState } from "./outbox.js";
import { Here, type Me } from "./presence.js";
import type { Presence, Refusal } from "./index.js";

/** What the hooks use of a collection, whatever its rows are. */
type Any = Pick<Collection, "subscribe" | "status" | "stateOf" | "refusals" | "hold" | "release" | "remote">;

/** The rows of a collection, those that are deleted left out, in the order of their ids. */
export function useRows<Row extends { id: string }>(collection: Collection<Row>): readonly Row[] {
  return useCollection(collection, () => collection.rows());
}

/** One row, or undefined where there is none. */
export function useRow<Row extends { id: string }>(collection: Collection<Row>, document: string): Row | undefined {
  return useCollection(collection, () => collection.get(document));
}

/** How the collection stands with the server. */
export function useStatus(collection: Pick<Any, "subscribe" | "status">): Status {
  return useCollection(collection, () => collection.status());
}

/** How one document stands with the server. */
export function useSyncState(collection: Pick<Any, "subscribe" | "stateOf">, document: string): SyncState {
  return useCollection(collection, () => collection.stateOf(document));
}

/** What the server refused. */
export function useRefusals(collection: Pick<Any, "subscribe" | "refusals">): readonly Refusal[] {
  const last = useRef<readonly Refusal[]>([]);
  return useCollection(collection, () => {
    const now = collection.refusals();
    if (now.length !== last.current.length || now.some((refusal, i) => refusal !== last.current[i])) last.current = now;
    return last.current;
  });
}

function useCollection<T>(collection: Pick<Any, "subscribe">, read: () => T): T {
  const subscribe = useCallback((changed: () => void) => collection.subscribe(changed), [collection]);
  return useSyncExternalStore(subscribe, read, read);
}

/**
 * The Y.Doc of a document, for an editor, as long as the component is mounted; undefined until
 * then. It is another one when the document was discarded.
 */
export function useDocument(collection: Pick<Any, "hold" | "release">, document: string): Y.Doc | undefined {
  const [doc, setDoc] = useState<Y.Doc>();
  useEffect(() => {
    let ended = false;
    const hold = (): void => {
      const held = collection.hold(document);
      held.once("destroy", () => {
        // In another turn: what destroys it puts another in its place.
        queueMicrotask(() => ended || hold());
      });
      setDoc(held);
    };
    hold();
    return () => {
      ended = true;
      collection.release(document);
      setDoc(undefined);
    };
  }, [collection, document]);
  return doc;
}

/** Says that a user is on a document while the component is mounted, and tells who else is. */
export function usePresence(collection: Pick<Any, "remote">, document: string, me: Me): { others: readonly Presence[]; here: Here | undefined } {
  const [others, setOthers] = useState<readonly Presence[]>([]);
  const [here, setHere] = useState<Here>();
  const latest = useRef(me);
  latest.current = me;
  useEffect(() => {
    const here = new Here(collection.remote, document, latest.current, () => setOthers(here.others()));
    setHere(here);
    return () => {
      here.end();
      setHere(undefined);
      setOthers([]);
    };
  }, [collection, document]);
  const said = JSON.stringify(me);
  useEffect(() => here?.be(latest.current), [here, said]);
  return { others, here };
}
