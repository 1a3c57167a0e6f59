// The line to write in, what waits to be sent to the agent, and the draft that outlives a reload.
// Never a message lost: what is sent is kept here until the server has it.

import { html, nothing } from "../vendor/lit-html.js";
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
function queued(turn, text, changed, editing) {
  if (editing.id === turn.id) {
    return html`<li>
      <textarea rows="2" aria-label="Queued message" .value=${editing.text} @input=${(event) => (editing.text = event.target.value)}></textarea>
      <button type="button" class="primary" @click=${() => edit(turn, editing, changed)}>Save</button>
      <button type="button" @click=${() => ((editing.id = null), changed())}>Cancel</button>
    </li>`;
  }
  return html`<li data-turn=${turn.id}>
    <span class="said" dir="auto">${text}</span>
    <button type="button" class="quiet" @click=${() => ((editing.id = turn.id), (editing.text = text), changed())}>Edit</button>
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
    <ol>${turns.map((turn) => queued(turn, messages.get(turn.request_message) ? source(messages.get(turn.request_message)) : "", changed, editing))}</ol>
  </section>`;
}

const outbox = (session) => `everkept-outbox-${session ?? "new"}`;

/**
 * What was written and is not with the server yet, in order. It outlives a reload; each text has its key from the
 * beginning, so that it is sent once, however often it is tried and by however many tabs.
 */
export class Outbox {
  /** `deliver(item, options)` sends one; `changed` is called when there is something else to show. */
  constructor(session, deliver, changed) {
    this.session = session;
    this.deliver = deliver;
    this.changed = changed;
    this.waiting = false;
    this.running = false;
    this.closed = false;
    this.items = this.read(session);
    this.pump();
  }

  read(session) {
    try {
      return JSON.parse(localStorage.getItem(outbox(session)) ?? "[]");
    } catch {
      return [];
    }
  }

  keep() {
    draft.put(outbox(this.session), this.items.length ? JSON.stringify(this.items) : "");
  }

  add(text, more = {}) {
    this.items.push({ key: freshKey(), text, ...more });
    this.keep();
    this.changed();
    this.pump();
  }

  /** Takes one back that is not with the server. */
  drop(item) {
    this.items = this.items.filter((other) => other !== item);
    this.keep();
    this.changed();
    this.pump();
  }

  /** What is left goes to the session that the first one made. */
  moveTo(session) {
    this.closed = true;
    const left = this.items;
    this.items = [];
    this.keep();
    this.session = session;
    this.items = [...this.read(session), ...left];
    this.keep();
  }

  async pump() {
    if (this.running) return;
    this.running = true;
    while (!this.closed && this.items.length && !this.items[0].error) {
      const item = this.items[0];
      try {
        await this.deliver(item, { key: item.key, patience: Infinity, waiting: () => this.waits() });
        if (this.closed) return;
        this.items.shift();
      } catch (error) {
        item.error = error.message;
        complain(error);
      }
      this.waiting = false;
      this.keep();
      this.changed();
    }
    this.running = false;
  }

  waits() {
    if (!this.waiting) toast("The server does not answer. What you wrote is kept here and tried until it does.");
    this.waiting = true;
    this.changed();
  }

  close() {
    this.closed = true;
  }

  /** `edit(text)` gets a text back into the line. */
  view(edit) {
    return this.items.map(
      (item) => html`<article class="message user unsent">
        <div class="text plain" dir="auto">${item.text}</div>
        <div class="actions">
          ${item.error ? html`<span class="bad">not sent: ${item.error}</span>` : html`<span class="soft">${this.waiting ? "not sent yet" : "sending …"}</span>`}
          ${item.error || this.waiting
            ? html`${item.error ? html`<button type="button" class="quiet" @click=${() => ((item.error = null), this.changed(), this.pump())}>Try again</button>` : nothing}
                <button type="button" class="quiet" @click=${() => (edit(item.text), this.drop(item))}>Edit</button>`
            : nothing}
        </div>
      </article>`,
    );
  }
}
