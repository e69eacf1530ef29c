// The page of the chat: React with the official Convex hooks, unmodified.

import { ConvexProvider, ConvexReactClient, insertAtTop, useConvexConnectionState, useMutation, usePaginatedQuery, useQuery } from "convex/react";
import { ConvexError } from "convex/values";
import { type FormEvent, type KeyboardEvent, StrictMode, useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import { api } from "./halcyon/api";
import type { Doc, Id } from "./halcyon/dataModel";

type RoomID = Id<"rooms">;

// The room that is shown is in the address, so that it can be sent to others and kept as a bookmark.
const roomInAddress = () => (location.hash.slice(1) || null) as RoomID | null;
const onAddress = (changed: () => void) => {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
};

// pageSize is how many messages are read at first, and with each step back.
const pageSize = 30;

// reason says why a call failed in words for people: those of the function, if it had some.
function reason(error: unknown): string {
  if (error instanceof ConvexError && typeof error.data?.message === "string") return error.data.message;
  return "That did not work. Please try again.";
}

// timeOf shows a moment: the time for those of today, the date too for older ones.
function timeOf(ms: number): string {
  const at = new Date(ms);
  const today = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(undefined, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

function Chat() {
  const rooms = useQuery(api.chat.rooms);
  const chosen = useSyncExternalStore(onAddress, roomInAddress);
  const room = rooms?.find((r) => r.id === chosen);
  const [name, setName] = useState(() => localStorage.getItem("chat-name") ?? "");
  return (
    <div className="chat" data-open={room !== undefined}>
      <aside>
        <h1>Chat</h1>
        <label className="name">
          Your name
          <input
            id="name"
            value={name}
            maxLength={40}
            placeholder="Anonymous"
            autoComplete="nickname"
            onChange={(e) => {
              setName(e.target.value);
              localStorage.setItem("chat-name", e.target.value);
            }}
          />
        </label>
        <nav aria-label="Rooms">
          {rooms === undefined && <p className="hint">Loading…</p>}
          {rooms?.length === 0 && <p className="hint">No rooms yet. Open the first one.</p>}
          <ul>
            {rooms?.map((r) => (
              <li key={r.id}>
                <a href={`#${r.id}`} aria-current={r.id === chosen ? "page" : undefined}>
                  <span>{r.name}</span>
                  <small title="messages">{r.messages}</small>
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <OpenRoom />
        <Link />
      </aside>
      <main>
        {room ? <Talk key={room.id} room={room} author={name.trim() || "Anonymous"} /> : <Nothing loading={rooms === undefined} lost={chosen !== null} />}
      </main>
    </div>
  );
}

function Nothing({ loading, lost }: { loading: boolean; lost: boolean }) {
  const text = loading ? "Loading…" : lost ? "This room does not exist." : "Pick a room, or open one.";
  return <p className="nothing">{text}</p>;
}

// Link says when there is no connection. What is written meanwhile is sent when there is one again.
function Link() {
  const { isWebSocketConnected, hasEverConnected } = useConvexConnectionState();
  const state = isWebSocketConnected ? "Live" : hasEverConnected ? "Reconnecting…" : "Connecting…";
  return (
    <p id="link" role="status" data-live={isWebSocketConnected}>
      {state}
    </p>
  );
}

function OpenRoom() {
  const open = useMutation(api.chat.openRoom);
  const [name, setName] = useState("");
  const [error, setError] = useState("");
  async function submit(e: FormEvent) {
    e.preventDefault();
    if (name.trim() === "") return;
    try {
      location.hash = await open({ name });
      setName("");
      setError("");
    } catch (e) {
      setError(reason(e));
    }
  }
  return (
    <form id="open" onSubmit={submit}>
      <input aria-label="Name of a room" placeholder="New room" value={name} maxLength={40} onChange={(e) => setName(e.target.value)} />
      <button disabled={name.trim() === ""}>Open</button>
      {error && <p role="alert">{error}</p>}
    </form>
  );
}

function Talk({ room, author }: { room: { id: RoomID; name: string }; author: string }) {
  const { results, status, loadMore } = usePaginatedQuery(api.chat.messages, { room: room.id }, { initialNumItems: pageSize });
  // A message is on the screen at once. It is replaced by what the server made of it in the moment its mutation is settled.
  const send = useMutation(api.chat.send).withOptimisticUpdate((store, { room, author, body }) => {
    insertAtTop({
      paginatedQuery: api.chat.messages,
      argsToMatch: { room },
      localQueryStore: store,
      item: { _id: `pending-${crypto.randomUUID()}` as Id<"messages">, _creationTime: Date.now(), room, author, body: body.trim() },
    });
  });
  const [error, setError] = useState("");

  async function say(body: string) {
    try {
      await send({ room: room.id, author, body });
      setError("");
    } catch (e) {
      setError(`“${body.slice(0, 40)}” was not sent. ${reason(e)}`);
    }
  }

  return (
    <>
      <header>
        <a className="back" href="#" aria-label="All rooms">
          ‹
        </a>
        <h2>{room.name}</h2>
      </header>
      <Messages messages={results} status={status} older={() => loadMore(pageSize)} />
      {error && <p role="alert">{error}</p>}
      <Say room={room.name} say={say} />
    </>
  );
}

function Messages({ messages, status, older }: { messages: Doc<"messages">[]; status: string; older: () => void }) {
  const list = useRef<HTMLDivElement>(null);
  // The list stays where it is read: at its end while that is in view, and otherwise at the same message.
  const fromEnd = useRef(0);
  useLayoutEffect(() => {
    const box = list.current;
    if (box) box.scrollTop = box.scrollHeight - box.clientHeight - fromEnd.current;
  }, [messages]);
  // A window that gets smaller, as over a keyboard on the screen, keeps the end in view too.
  useEffect(() => {
    const box = list.current;
    if (!box) return;
    const watcher = new ResizeObserver(() => {
      if (fromEnd.current === 0) box.scrollTop = box.scrollHeight;
    });
    watcher.observe(box);
    return () => watcher.disconnect();
  }, []);
  const remember = () => {
    const box = list.current!;
    const n = box.scrollHeight - box.clientHeight - box.scrollTop;
    fromEnd.current = n < 30 ? 0 : n;
  };
  return (
    <div id="messages" ref={list} onScroll={remember} tabIndex={0} role="log" aria-label="Messages">
      {status === "CanLoadMore" && (
        <button
          id="older"
          onClick={() => {
            remember();
            fromEnd.current ||= 1; // those that come stand above, so what is read stays in place
            older();
          }}
        >
          Older messages
        </button>
      )}
      {(status === "LoadingMore" || status === "LoadingFirstPage") && <p className="hint">Loading…</p>}
      {status === "Exhausted" && messages.length === 0 && <p className="nothing">Nothing has been said here. Say something.</p>}
      {messages.toReversed().map((m) => (
        <article key={m._id} data-pending={m._id.startsWith("pending-")}>
          <p className="by">
            <b>{m.author}</b> <time dateTime={new Date(m._creationTime).toISOString()}>{timeOf(m._creationTime)}</time>
          </p>
          <p className="body">{m.body}</p>
        </article>
      ))}
    </div>
  );
}

function Say({ room, say }: { room: string; say: (body: string) => void }) {
  const [body, setBody] = useState("");
  function submit(e: FormEvent | KeyboardEvent) {
    e.preventDefault();
    if (body.trim() === "") return;
    say(body);
    setBody("");
  }
  return (
    <form id="say" onSubmit={submit}>
      <textarea
        aria-label={`Message to ${room}`}
        placeholder={`Message to ${room}`}
        rows={1}
        maxLength={2000}
        value={body}
        autoFocus
        onChange={(e) => setBody(e.target.value)}
        onKeyDown={(e) => {
          if (e.key === "Enter" && !e.shiftKey && !e.nativeEvent.isComposing) submit(e);
        }}
      />
      <button disabled={body.trim() === ""}>Send</button>
    </form>
  );
}

const client = new ConvexReactClient(location.origin);
createRoot(document.getElementById("chat")!).render(
  <StrictMode>
    <ConvexProvider client={client}>
      <Chat />
    </ConvexProvider>
  </StrictMode>,
);
