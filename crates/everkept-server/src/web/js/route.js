// Which view a path has, and how one gets from one to the next.
// Never a page that cannot be reloaded: the address says all that the view needs.

import * as chat from "./chat.js";
import * as detail from "./detail.js";
import * as list from "./list.js";
import * as ops from "./ops.js";
import * as questions from "./questions.js";

const VIEWS = [
  [/^\/$/, list],
  [/^\/chat$/, chat],
  [/^\/waiting$/, questions],
  [/^\/ops$/, ops],
  [/^\/sessions\/(?<session>[^/]+)$/, detail],
];

let shown = null;

/** The address that a session had on the first page still leads to it. */
function moved() {
  const session = location.pathname === "/" && new URLSearchParams(location.search).get("session");
  if (session) history.replaceState(null, "", `/chat?session=${encodeURIComponent(session)}`);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function show() {
  moved();
  shown?.close();
  const root = document.createElement("div");
  document.getElementById("view").replaceChildren(root);
  for (const [pattern, view] of VIEWS) {
    const match = pattern.exec(location.pathname);
    if (!match) continue;
    const params = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(match.groups ?? {})) params.set(name, decoded(value));
    document.body.dataset.view = location.pathname.split("/")[1] || "list";
    shown = view.open(root, params);
    break;
  }
  dispatchEvent(new CustomEvent("shown"));
}

export function go(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  show();
  // What had the focus is gone with its view.
  if (!document.getElementById("view").contains(document.activeElement)) document.getElementById("view").focus();
}

/** Links within the pages change the view and load nothing. */
function followed(event) {
  const link = event.target.closest?.("a[href]");
  // The way to the content is within the page.
  if (!link || link.getAttribute("href").startsWith("#") || link.target || link.hasAttribute("download") || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || !VIEWS.some(([pattern]) => pattern.test(url.pathname))) return;
  event.preventDefault();
  go(url.pathname + url.search);
}

export function start() {
  addEventListener("popstate", show);
  document.addEventListener("click", followed);
  show();
}
