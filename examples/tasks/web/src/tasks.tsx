// A task list that works without a network: React, the official Convex client, and the collections of halcyon-replicate.

import { type Task, tasks } from "./collection.js";
import type { SyncState } from "halcyon-replicate";
import { useDocument, usePresence, useRefusals, useRow, useRows, useStatus, useSyncState } from "halcyon-replicate/react";
import { type FormEvent, memo, StrictMode, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import * as Y from "yjs";

// The task that is open is in the address.
const inAddress = () => location.hash.slice(1);
const onAddress = (changed: () => void) => {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
};

// pageSize is how many tasks are on the page at first, the newest, and how many come with each step back. All are on the device.
const pageSize = 100;

const words = { loading: "Loading…", offline: "Offline", stalled: "The server does not take it", pending: "Saving…", refused: "Refused", synced: "Saved" };

// What is not for the list waits until that is there: the worker that keeps the page, which gets all of its files, the editor's too. Without a worker
// the page gets the editor itself.
function prepare(): void {
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("/worker.js").catch(prestart);
  else prestart();
}

// Safari has no idle callbacks.
const idle = (run: () => void) => ("requestIdleCallback" in window ? requestIdleCallback(run) : setTimeout(run, 200));

function App() {
  const rows = useRows(tasks);
  const status = useStatus(tasks);
  const open = useSyncExternalStore(onAddress, inAddress);
  const chosen = useRow(tasks, open);
  const [name, setName] = useState(() => localStorage.getItem("tasks-name") ?? "");
  const [shown, setShown] = useState(pageSize);
  useEffect(() => {
    if (status.caughtUp) idle(prepare);
  }, [status.caughtUp]);
  const left = rows.filter((task) => !task.done).length;
  const waiting = status.pending > 0 && status.word !== "pending" ? ` · ${status.pending} to send` : "";
  return (
    <div className="app" data-open={chosen !== undefined}>
      <main>
        <header>
          <h1>Tasks</h1>
          <p id="status" role="status" data-state={status.word} title={status.problem}>
            <i className="dot" />
            {words[status.word]}
            {waiting}
          </p>
        </header>
        <Add />
        <Refused />
        <ul id="list" aria-label="Tasks">
          {rows.length > shown && (
            <li className="older">
              <button onClick={() => setShown(shown + pageSize)}>{rows.length - shown} older tasks</button>
            </li>
          )}
          {rows.slice(-shown).map((task) => (
            <Item key={task.id} task={task} open={task.id === open} />
          ))}
        </ul>
        {status.loaded && rows.length === 0 && <p className="nothing">{status.caughtUp ? "Nothing to do." : "Nothing here yet."}</p>}
        <footer>
          <span>{rows.length > 0 && `${left} of ${rows.length} to do`}</span>
          <label>
            Your name
            <input
              id="name"
              value={name}
              maxLength={40}
              placeholder="Anonymous"
              autoComplete="nickname"
              onChange={(e) => {
                setName(e.target.value);
                localStorage.setItem("tasks-name", e.target.value);
              }}
            />
          </label>
        </footer>
      </main>
      {chosen && <Detail key={chosen.id} task={chosen} name={name.trim() || "Anonymous"} />}
    </div>
  );
}

function Add() {
  const [title, setTitle] = useState("");
  function submit(e: FormEvent) {
    e.preventDefault();
    if (title.trim() === "") return;
    tasks.insert({ title: title.trim(), done: false });
    setTitle("");
  }
  return (
    <form id="add" onSubmit={submit}>
      <input aria-label="New task" placeholder="What is to do?" value={title} autoFocus onChange={(e) => setTitle(e.target.value)} />
      <button disabled={title.trim() === ""}>Add</button>
    </form>
  );
}

// What the server refuses stays with who wrote it, who decides: change it, try again, or give it up.
function Refused() {
  return useRefusals(tasks).map(({ document, message }) => (
    <p key={document} role="alert">
      <span>
        “{(tasks.get(document)?.title ?? "A task").slice(0, 40)}” is not on the server. {message}
      </span>
      <button onClick={() => tasks.retry(document)}>Try again</button>
      <button onClick={() => tasks.discard(document)}>Undo my change</button>
    </p>
  ));
}

const states: Record<SyncState, string> = { synced: "on the server", pending: "to be sent", stalled: "the server does not take it", refused: "refused" };

function Dot({ id }: { id: string }) {
  const state = useSyncState(tasks, id);
  return <i className="dot" data-state={state} role="img" aria-label={states[state]} title={states[state]} />;
}

const Item = memo(function Item({ task, open }: { task: Task; open: boolean }) {
  return (
    <li data-done={task.done} aria-current={open || undefined}>
      <input type="checkbox" checked={task.done} aria-label={`${task.title} is done`} onChange={() => tasks.update(task.id, { done: !task.done })} />
      <a href={`#${task.id}`} onPointerEnter={prestart} onFocus={prestart}>
        <span>{task.title}</span>
        {task.note && <small>{task.note.split("\n").find((line) => line !== "")}</small>}
      </a>
      <Dot id={task.id} />
    </li>
  );
});

const colors = ["#0b7480", "#9a4d00", "#6b4fbb", "#3c6e1f", "#a6330a", "#1f5fa6"];

function Detail({ task, name }: { task: Task; name: string }) {
  const color = useMemo(() => colors[Math.floor(Math.random() * colors.length)]!, []);
  const { others } = usePresence(tasks, task.id, { profile: { name, color } });
  const doc = useDocument(tasks, task.id);
  return (
    <aside id="detail">
      <header>
        <a className="back" href="#" aria-label="All tasks">
          ‹
        </a>
        <input
          id="title"
          aria-label="Title"
          value={task.title}
          onChange={(e) => tasks.update(task.id, { title: e.target.value })}
        />
        <button
          id="remove"
          onClick={() => {
            tasks.remove(task.id);
            location.hash = "";
          }}
        >
          Delete
        </button>
      </header>
      <ul id="others" aria-label="Also here">
        {others.map(({ client, profile }) => (
          <li key={client} style={{ background: profile?.color }} title={`${profile?.name} is here`}>
            {profile?.name?.slice(0, 12)}
          </li>
        ))}
      </ul>
      {doc && <Note key={doc.clientID} doc={doc} text={task.note ?? ""} />}
    </aside>
  );
}

// The editor is most of the page's script, takes as long to start as the rest, and the list needs none of it: it is started when somebody is about to
// open a note. By then the worker has it, so that this needs no network.
type Editor = typeof import("./editor.js").Editor;
const editor = {
  here: undefined as Editor | undefined,
  async load(): Promise<Editor> {
    return (this.here ??= (await import("./editor.js")).Editor);
  },
};

const prestart = () => void editor.load().catch(() => {}); // who opens a note is told

function Note({ doc, text }: { doc: Y.Doc; text: string }) {
  const [Editor, setEditor] = useState<Editor | undefined>(() => editor.here);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    editor.load().then((it) => setEditor(() => it), () => setFailed(true));
  }, []);
  const note = doc.getMap("fields").get("note");
  if (!(note instanceof Y.XmlFragment)) return null;
  if (Editor) return <Editor fragment={note} />;
  return (
    <section className="editor" aria-busy={!failed}>
      <div className="tools">
        {failed && (
          <p role="alert">
            <span>The editor could not be loaded.</span>
            <button onClick={() => location.reload()}>Load the page again</button>
          </p>
        )}
      </div>
      <div className="unopened">{text}</div>
    </section>
  );
}

// The first list that is shown has what the device has, unless that takes long. Until then the page says that it loads.
await Promise.race([tasks.loaded, new Promise((resolve) => setTimeout(resolve, 100))]);
createRoot(document.getElementById("tasks")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
