// Where every page begins: the frame around the view, and what all views share.
// Never a view's own business.

import { html, nothing, render } from "../vendor/lit-html.js";
import { get, session as at } from "./api.js";
import * as feed from "./feed.js";
import { nameOf } from "./format.js";
import { onWaiting, watch } from "./questions.js";
import * as route from "./route.js";
import { toast } from "./toast.js";

const RECENT = 30;
const THEMES = ["system", "light", "dark"];

let recent = [];
let waits = 0;

// ---- the theme

const theme = () => {
  try {
    return localStorage.getItem("everkept-theme") ?? "system";
  } catch {
    return "system";
  }
};

function paint() {
  document.documentElement.dataset.theme = theme();
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  try {
    localStorage.setItem("everkept-theme", next);
  } catch {
    document.documentElement.dataset.theme = next;
  }
  paint();
  frame();
}

// ---- the frame

function frame() {
  const here = location.pathname;
  const open = new URLSearchParams(location.search).get("session") ?? (/^\/sessions\/(.+)$/.exec(here)?.[1] || null);
  const link = (path, label, badge) => html`<a href=${path} aria-current=${here === path && !open ? "page" : "false"}>${label}${badge ? html`<span class="badge" aria-label=${`${badge} waiting`}>${badge}</span>` : nothing}</a>`;
  render(
    html`<a class="brand" href="/">Everkept</a>
      <a class="button primary new" href="/chat">New <span>session</span></a>
      <nav aria-label="Pages">${link("/", "Sessions")}${link("/waiting", "Waiting", waits)}${link("/ops", "Operations")}</nav>
      <nav class="recent" aria-label="Recent sessions">
        ${recent.map((session) => html`<a href=${`/chat?session=${session.id}`} aria-current=${session.id === open ? "page" : "false"} data-state=${session.state}><bdi>${nameOf(session)}</bdi></a>`)}
      </nav>
      <button type="button" class="quiet theme" @click=${nextTheme}>Theme: ${theme()}</button>`,
    document.getElementById("side"),
  );
}

async function readRecent() {
  const page = await get("/api/sessions", { limit: RECENT, archived: "false" }).catch(() => null);
  if (!page) return;
  recent = page.items;
  frame();
}

let soon = null;
const recentSoon = () => {
  soon ??= setTimeout(() => ((soon = null), readRecent()), 400);
};

/** One that is there already changes in its place; the order is read anew when a turn begins or ends. */
async function changed(hint) {
  const known = hint && recent.find((session) => session.id === hint.session);
  if (!known || known.state !== hint.state) return recentSoon();
  const fresh = await get(at(hint.session)).catch(() => null);
  if (!fresh) return recentSoon();
  recent = recent.map((session) => (session.id === fresh.id ? fresh : session));
  frame();
}

// ---- the beginning

addEventListener("signed-out", () => {
  document.getElementById("signed-out").hidden = false;
});
addEventListener("error", (event) => toast(`The page made a mistake: ${event.message}`, { bad: true }));
addEventListener("unhandledrejection", (event) => toast(`The page made a mistake: ${event.reason?.message ?? event.reason}`, { bad: true }));
addEventListener("shown", frame);
addEventListener("popstate", frame);

paint();
feed.start();
feed.onChange(changed);
route.start();
readRecent();
watch();
onWaiting((questions) => {
  waits = questions.length;
  frame();
  navigator.setAppBadge?.(waits).catch(() => {});
});
// Notices on a phone come from a worker; without one they come from the page.
const worker = globalThis.trustedTypes?.createPolicy("everkept", { createScriptURL: () => "/sw.js" }).createScriptURL("") ?? "/sw.js";
navigator.serviceWorker?.register(worker).catch(() => {});
