// A document without a screen, and components of React that are shown in it.
import { Window } from "happy-dom";

export const window = new Window();
globalThis.window = window;
globalThis.document = window.document;
if (!globalThis.navigator) globalThis.navigator = window.navigator;
const { Component, createElement: h } = await import("react");
const { createRoot } = await import("react-dom/client");
const { ConvexProvider } = await import("convex/react");

// Boundary renders children until one of them throws, and then gives it to caught.
class Boundary extends Component {
  state = { error: null };
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? this.props.caught(this.state.error) : this.props.children;
  }
}

// mount shows a component that uses the client by, and records what it renders, without repetitions. What it throws is recorded as caught has it.
export function mount(component, { by, caught = (error) => [error.message] }) {
  const seen = [];
  let look = () => {};
  const record = (value) => {
    const shows = JSON.stringify(value);
    if (shows !== seen.at(-1)) seen.push(shows);
    look();
    return shows;
  };
  const Recorder = (props) => record(component(props));
  const root = createRoot(document.createElement("div"), { onCaughtError() {} });
  const render = (props) =>
    root.render(h(ConvexProvider, { client: by }, h(Boundary, { caught: (error) => record(caught(error)) }, h(Recorder, props))));
  render({});
  const until = (wanted) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it never shows ${wanted}; it showed ${seen.join("\n")}`)), 120_000);
    look = () => {
      if (seen.at(-1) !== wanted) return;
      clearTimeout(timer);
      resolve();
    };
    look();
  });
  return { seen, until, render, unmount: () => root.unmount() };
}
