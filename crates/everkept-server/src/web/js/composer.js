// The line to write in, what waits to be sent to the agent, and the draft that outlives a reload.
// Never a message lost: what is sent is kept here until the server has it.

import { html, nothing } from "../vendor/lit-html.js";
import { repeat } from "../vendor/directives/repeat.js";
import { freshKey, turn as at, write } from "./api.js";
import { complain, toast } from "./toast.js";
import { source } from "./parts.js";

const slot = (session) => `everkept-draft-${session ?? "new"}`;

export const draft = {
  read(session) {
    try {
      return localStorage.getItem(slot(session)) ?? "";
    } catch {
      return "";
    }
  },
  keep(session, text) {
    draft.put(slot(session), text);
  },
  put(name, text) {
    try {
      if (text) localStorage.setItem(name, text);
      else localStorage.removeItem(name);
    } catch {
      // A browser that keeps nothing keeps no drafts either.
    }
  },
};

export function grow(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight * 0.4)}px`;
}

/** A turn that waits behind another: to be changed or taken back before it begins. */
function queued(turn, message, changed, editing) {
  const text = message ? source(message) : "";
  // Words alone would be sent in the place of words and files.
  const whole = message && [...message.parts.values()].every((part) => part.type === "text");
  if (editing.id === turn.id) {
    return html`<li>
      <textarea rows="2" aria-label="Queued message" .value=${editing.text} @input=${(event) => (editing.text = event.target.value)}></textarea>
      <button type="button" class="primary" @click=${() => edit(turn, editing, changed)}>Save</button>
      <button type="button" @click=${() => ((editing.id = null), changed())}>Cancel</button>
    </li>`;
  }
  return html`<li data-turn=${turn.id}>
    <span class="said" dir="auto">${text}</span>
    ${whole ? html`<button type="button" class="quiet" @click=${() => ((editing.id = turn.id), (editing.text = text), changed())}>Edit</button>` : nothing}
    <button type="button" class="quiet" @click=${() => write("DELETE", at(turn.id)).catch(complain)}>Drop</button>
  </li>`;
}

async function edit(turn, editing, changed) {
  try {
    await write("PATCH", at(turn.id), { input: editing.text });
    editing.id = null;
    changed();
  } catch (error) {
    complain(error.status === 409 ? Object.assign(error, { message: "It has begun meanwhile, as it was." }) : error);
  }
}

export function queue(turns, messages, changed, editing) {
  if (!turns.length) return nothing;
  return html`<section class="queue" aria-label="Queued messages">
    <h3>Next${turns.length > 1 ? ` (${turns.length})` : ""}</h3>
    <ol>${repeat(turns, (turn) => turn.id, (turn) => queued(turn, messages.get(turn.request_message), changed, editing))}</ol>
  </section>`;
}

const outbox = (session) => `everkept-outbox-${session ?? "new"}-`;

/** What is on its way, by key: several views of one outbox send a text once. */
const flying = new Map();

/**
 * What was written and is not with the server yet, in order. Each text is kept under its own name, so that it outlives a
 * reload and no tab overwrites another's; and each has its key from the beginning, so that it is sent once.
 */
export class Outbox {
  /**
   * `deliver(item, options)` sends one and answers the session that was made for it, if one was; `changed` is called when
   * there is something else to show, `arrived(session)` when there is a session now.
   */
  constructor(session, { deliver, changed, arrived }) {
    Object.assign(this, { session, deliver, changed, arrived, waiting: false, running: false, closed: false });
    this.items = this.read();
    this.pump();
  }

  read() {
    try {
      const names = Object.keys(localStorage).filter((name) => name.startsWith(outbox(this.session)));
      return names.map((name) => JSON.parse(localStorage.getItem(name))).sort((a, b) => a.at - b.at);
    } catch {
      return [];
    }
  }

  keep({ error, ...item }) {
    draft.put(outbox(this.session) + item.key, JSON.stringify(item));
  }

  forget({ key }) {
    draft.put(outbox(this.session) + key, "");
    this.items = this.items.filter((other) => other.key !== key);
  }

  add(text, more = {}) {
    const item = { key: freshKey(), at: Math.max(Date.now(), (this.items.at(-1)?.at ?? 0) + 1), text, ...more };
    this.items.push(item);
    this.keep(item);
    this.changed();
    this.pump();
  }

  /** Takes one back that was never given to the server, or was refused. */
  drop(item) {
    this.forget(item);
    this.changed();
    this.pump();
  }

  /** What is left goes to the session that the first one made. */
  moveTo(session) {
    const left = this.items;
    for (const item of left) this.forget(item);
    this.session = session;
    this.items = left;
    for (const item of left) this.keep(item);
  }

  fly(item) {
    const waiting = () => this.waits();
    if (!flying.has(item.key)) {
      const sent = this.deliver(item, { key: item.key, patience: Infinity, waiting });
      flying.set(item.key, sent.finally(() => flying.delete(item.key)));
    }
    return flying.get(item.key);
  }

  async pump() {
    if (this.running) return;
    this.running = true;
    while (!this.closed && this.items.length && !this.items[0].error) {
      const item = this.items[0];
      try {
        const session = await this.fly(item);
        this.forget(item);
        if (session) {
          this.moveTo(session);
          if (!this.closed) this.arrived(session);
        }
      } catch (error) {
        item.error = error.message;
        if (!this.closed) complain(error);
      }
      this.waiting = false;
      this.changed();
    }
    this.running = false;
  }

  waits() {
    if (!this.waiting && !this.closed) toast("The server does not answer. What you wrote is kept here and tried until it does.");
    this.waiting = true;
    this.changed();
  }

  close() {
    this.closed = true;
  }

  /** `edit(text)` gets a text back into the line: one that was refused, or was not tried yet. Of the rest nobody knows whether it arrived. */
  view(edit) {
    return repeat(
      this.items,
      (item) => item.key,
      (item) => {
        const tried = item === this.items[0] && !item.error;
        const behind = this.items[0].error && item !== this.items[0];
        return html`<article class="message user unsent">
          <div class="text plain" dir="auto">${item.text}</div>
          <div class="actions">
            ${item.error ? html`<span class="bad">not sent: ${item.error}</span>` : html`<span class="soft">${behind ? "waits for the one before it" : this.waiting ? "not sent yet" : "sending …"}</span>`}
            ${item.error ? html`<button type="button" class="quiet" @click=${() => ((item.error = null), this.changed(), this.pump())}>Try again</button>` : nothing}
            ${tried ? nothing : html`<button type="button" class="quiet" @click=${() => (edit(item.text), this.drop(item))}>Edit</button>`}
          </div>
        </article>`;
      },
    );
  }
}
