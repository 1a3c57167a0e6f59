// Questions that wait for a human: shown with the exact call, answered once.
// Never an answer without a click, and never to anything but what was shown.

import { html, nothing, render } from "../vendor/lit-html.js";
import { repeat } from "../vendor/directives/repeat.js";
import { get, session as at, write } from "./api.js";
import { exactly, nameOf, oneLine, plainly, words } from "./format.js";
import { isFirst, onChange } from "./feed.js";
import { data } from "./parts.js";
import { edits } from "./diff.js";
import { toast } from "./toast.js";

const KINDS = { permission: "Permission", choice: "Choice", review: "Interrupted" };
const asked = new Set();

async function settle(question, option, card) {
  if (asked.has(question.id)) return;
  asked.add(question.id);
  const note = card?.querySelector("input")?.value.trim();
  try {
    await write("POST", `/api/questions/${encodeURIComponent(question.id)}/answer`, { option: option.id, ...(note ? { note } : {}) });
    toast(`Answered: ${oneLine(option.label)}`);
  } catch (error) {
    toast(error.status === 409 || error.status === 404 ? "It was settled already, by somebody else or by its end." : error.message, { bad: true });
  } finally {
    asked.delete(question.id);
  }
}

function callOf(question) {
  const call = question.call;
  const changes = edits(call?.json?.input ?? call?.json?.rawInput ?? call?.json);
  const command = call?.json?.input?.command ?? call?.json?.rawInput?.command ?? call?.json?.command;
  return html`${typeof command === "string" ? html`<pre class="command" tabindex="0">${plainly(command)}</pre>` : nothing} ${changes}
    ${call ? html`<details ?open=${question.kind === "permission" || (typeof command !== "string" && !changes.length)}><summary>The exact call</summary>${data(call)}</details>` : nothing}`;
}

/** Cards stay those of their question when another one is settled: a click is never for what took its place. */
export const cards = (questions, session = () => null) => repeat(questions, (question) => question.id, (question) => card(question, session(question)));

/** A card; `session` is named on it where it is not the page's own. */
function card(question, session) {
  const id = `question-${question.id}`;
  return html`<article class="question" data-kind=${question.kind} aria-labelledby=${id} data-question=${question.id}>
    <header>
      <span class="badge">${KINDS[question.kind] ?? words(question.kind)}</span>
      <h3 id=${id}><bdi>${oneLine(question.title)}</bdi></h3>
    </header>
    ${session ? html`<p class="soft"><a href=${`/chat?session=${session.id}`}><bdi>${nameOf(session)}</bdi></a></p>` : nothing}
    ${callOf(question)}
    <div class="options">
      ${question.options.map(
        (option, at) => html`<button type="button" class=${option.kind === "allow_once" || (question.kind !== "permission" && at === 0) ? "primary" : ""} data-option=${option.kind}
          @click=${(event) => settle(question, option, event.target.closest(".question"))}>${oneLine(option.label)}</button>`,
      )}
    </div>
    <div class="foot">
      <label>Note <input type="text" maxlength="2000" placeholder="for the record" autocomplete="off"></label>
      ${question.expires_at ? html`<small class="soft">denied by itself ${exactly(question.expires_at)}</small>` : nothing}
    </div>
  </article>`;
}

// ---- what waits, for all pages

let waiting = [];
const watchers = new Set();

/** Calls `take(questions)` now and whenever what waits changes; returns how to stop. */
export function onWaiting(take) {
  watchers.add(take);
  take(waiting);
  return () => watchers.delete(take);
}

let soon = 0;
let known = null;

async function read() {
  const page = await get("/api/questions").catch(() => null);
  if (!page) return;
  waiting = page.items;
  for (const take of watchers) take(waiting);
  const fresh = known ? waiting.filter((question) => !known.has(question.id)) : [];
  known = new Set(waiting.map((question) => question.id));
  await notify(fresh);
}

/** Which sessions wait, as far as the feed has said: a change of any other means nothing for the list. */
const stands = new Map();

export function watch() {
  read();
  onChange((hint) => {
    const before = hint && stands.get(hint.session);
    if (hint) stands.set(hint.session, hint.state);
    const ours = !hint || hint.state === "waiting" || before === "waiting" || before === undefined || waiting.some((question) => question.session === hint.session);
    if (!ours) return;
    clearTimeout(soon);
    soon = setTimeout(read, 150);
  });
}

async function notify(fresh) {
  if (!fresh.length || !isFirst() || !("Notification" in globalThis) || Notification.permission !== "granted" || !document.hidden) return;
  const worker = await navigator.serviceWorker?.getRegistration().catch(() => null);
  for (const question of fresh) {
    const body = `${KINDS[question.kind] ?? "Question"}: ${oneLine(question.title)}`;
    const options = { body, tag: question.id, icon: "/icon-192.png", data: { path: `/chat?session=${question.session}` } };
    if (worker) await worker.showNotification("Everkept waits for you", options);
    else new Notification("Everkept waits for you", options);
  }
}

/** Asks the browser, once, on a click. */
async function allowNotices() {
  if (!("Notification" in globalThis)) return toast("This browser shows no notices.", { bad: true });
  const said = await Notification.requestPermission();
  toast(said === "granted" ? "You are told when something waits for you." : "The browser refused: allow notices for this page in its settings.", { bad: said !== "granted" });
}

// ---- the inbox

export function open(root) {
  document.title = "Waiting for you · Everkept";
  const sessions = new Map();
  const show = (questions) => {
    const missing = [...new Set(questions.map((question) => question.session))].filter((id) => !sessions.has(id));
    for (const id of missing) {
      sessions.set(id, null);
      get(at(id)).then((session) => (sessions.set(id, session), show(waiting)), () => {});
    }
    const told = !("Notification" in globalThis) || Notification.permission === "granted";
    render(
      html`<div class="page narrow">
        <header class="bar"><h1>Waiting for you</h1>${told ? nothing : html`<button type="button" @click=${() => allowNotices().then(() => show(waiting))}>Tell me when something waits</button>`}</header>
        ${questions.length ? cards(questions, ({ session }) => sessions.get(session) ?? { id: session, title: "…" }) : html`<p class="empty">Nothing waits for you.</p>`}
      </div>`,
      root,
    );
  };
  return { close: onWaiting(show) };
}
