// What changes anywhere, told to every open page.
// Never a stream for each tab: browsers allow six connections to a server, and one tab listens for all.

const heard = new EventTarget();
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("everkept-feed") : null;
let leads = false;

/** Calls `take({session, seq, state})` for every change, or `take(null)` when some may have been missed; returns how to stop. */
export function onChange(take) {
  const listener = (event) => take(event.detail);
  heard.addEventListener("change", listener);
  return () => heard.removeEventListener("change", listener);
}

/** Whether this tab speaks for all of them: notices are shown once. */
export const isFirst = () => leads;

const tell = (detail) => heard.dispatchEvent(new CustomEvent("change", { detail }));

function pass(detail) {
  tell(detail);
  channel?.postMessage(detail);
}

function listen() {
  leads = true;
  const connect = () => {
    const stream = new EventSource("/api/feed");
    stream.onmessage = (event) => pass(JSON.parse(event.data));
    stream.addEventListener("missed", () => pass(null));
    // Hints are not sent again: what was read before the stream stood, or while it was broken, is read anew.
    stream.onopen = () => pass(null);
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
    };
  };
  connect();
}

export function start() {
  channel?.addEventListener("message", (event) => tell(event.data));
  // The lock passes to another tab when this one closes.
  if (navigator.locks) navigator.locks.request("everkept-feed", () => (listen(), new Promise(() => {})));
  else listen();
}
