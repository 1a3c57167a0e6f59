// One conversation: resumed, followed live, gone on with.
// Never a text that differs from the log's: what is on the page is the snapshot and the events after it.

import { html, nothing, render } from "../vendor/lit-html.js";
import { repeat } from "../vendor/directives/repeat.js";
import { freshKey, get, session as at, turn as atTurn, write } from "./api.js";
import { onChange } from "./feed.js";
import { draft, grow, Outbox, queue } from "./composer.js";
import { Conversation, isOpen, putOff } from "./conversation.js";
import { count, money, nameOf, oneLine, tokensOf } from "./format.js";
import { menu, rename, trash } from "./actions.js";
import { go } from "./route.js";
import { shownMessage, turnLine } from "./message.js";
import { Texts } from "./parts.js";
import { Picker } from "./picker.js";
import { cards } from "./questions.js";
import { complain, toast } from "./toast.js";

const NEAR_END = 120;

class Chat {
  constructor(root, id) {
    this.root = root;
    this.id = id;
    this.texts = new Texts();
    this.editing = { id: null, text: "" };
    this.rewriting = { id: null, text: "" };
    this.picker = new Picker(
      () => this.draw(),
      (session) => (this.conversation.session = session),
    );
    this.conversation = null;
    this.follows = true;
    this.drawing = 0;
    this.failed = null;
    this.loadingOlder = false;
    this.stops = new AbortController();
    this.outbox = new Outbox(id, {
      deliver: (item, options) => this.deliver(item, options),
      changed: () => this.soon(),
      arrived: (session) => this.arrived(session),
    });
    this.draw();
    this.input.value = draft.read(id);
    grow(this.input);
    this.picker.load().catch(complain);
    if (id) this.join(id);
    if (!matchMedia("(pointer: coarse)").matches) this.input.focus();
    addEventListener("keydown", (event) => this.shortcut(event), { signal: this.stops.signal });
  }

  get input() {
    return this.root.querySelector("#input");
  }

  get scroller() {
    return this.root.querySelector("#transcript");
  }

  join(id) {
    const conversation = new Conversation(id);
    this.conversation = conversation;
    conversation.addEventListener("loaded", () => {
      this.texts.forget();
      this.failed = null;
    });
    conversation.addEventListener("change", () => this.soon());
    conversation.addEventListener("delta", ({ detail }) => {
      if (this.drawing || !this.texts.grow(detail.part, detail.text)) this.soon();
      else if (this.follows) this.toEnd();
    });
    conversation.addEventListener("gone", () => {
      this.failed = "This session is gone: it is in the trash, or it never was.";
      this.soon();
    });
    conversation.addEventListener("absent", ({ detail }) => {
      this.failed = detail ?? "There is no such session.";
      this.soon();
    });
    conversation.open();
    // What was in the trash may come back.
    this.unwatch = onChange((hint) => {
      if (this.failed && hint?.session === id) conversation.open();
    });
  }

  close() {
    this.stops.abort();
    this.outbox.close();
    this.unwatch?.();
    this.conversation?.close();
    cancelAnimationFrame(this.drawing);
  }

  /** Many events are one drawing. A page that is not looked at is drawn as well, only later. */
  soon() {
    if (this.drawing) return;
    const run = () => {
      this.drawing = 0;
      this.draw();
    };
    this.drawing = document.hidden ? setTimeout(run, 200) : requestAnimationFrame(run);
  }

  toEnd() {
    const box = this.scroller;
    box.scrollTop = box.scrollHeight;
  }

  // ---- what is known

  get session() {
    return this.conversation?.session ?? null;
  }

  get turns() {
    return this.conversation ? [...this.conversation.turns.values()] : [];
  }

  /** Turns that wait behind another one. */
  get waitingTurns() {
    const open = this.turns.filter(isOpen);
    const ahead = open.some((turn) => turn.state !== "queued" || putOff(turn));
    const queued = open.filter((turn) => turn.state === "queued" && turn.request_message && !putOff(turn));
    return ahead ? queued : queued.slice(1);
  }

  get busy() {
    return this.turns.some(isOpen);
  }

  // ---- what is done

  send() {
    const text = this.input.value;
    if (!text.trim()) return;
    const chosen = this.picker.chosen ? { agent: this.picker.locked.agent, model: this.picker.locked.model } : {};
    this.input.value = "";
    draft.keep(this.id, "");
    grow(this.input);
    this.follows = true;
    this.outbox.add(text, this.id ? {} : { session: { ...chosen, title: titleOf(text) } });
  }

  /** The first message of a new session makes it; its key makes it once. */
  async deliver({ text, session }, { key, ...options }) {
    if (this.id) {
      await write("POST", `${at(this.id)}/turns`, { input: text }, { key, ...options });
      return null;
    }
    const given = Object.fromEntries(Object.entries(session ?? {}).filter(([, value]) => value));
    const { id } = await write("POST", "/api/sessions", given, { key: `${key}-session`, ...options });
    await write("POST", `${at(id)}/turns`, { input: text }, { key, ...options });
    return id;
  }

  arrived(session) {
    draft.keep(session, this.input.value);
    draft.keep(null, "");
    go(`/chat?session=${session}`, { replace: true });
  }

  takeBack(text) {
    this.input.value = [this.input.value, text].filter(Boolean).join("\n");
    draft.keep(this.id, this.input.value);
    grow(this.input);
    this.input.focus();
  }

  async stop() {
    const running = this.turns.filter((turn) => turn.state === "running" || turn.state === "waiting");
    const all = running.length ? running : this.turns.filter(isOpen);
    for (const turn of all) await write("POST", `${atTurn(turn.id)}/cancel`).catch(complain);
  }

  act = {
    again: (turn, how) => write("POST", `${atTurn(turn.id)}/${how}`).catch(complain),
    fork: async (turn) => {
      const child = await write("POST", `${at(this.id)}/fork`, turn ? { at: turn.id } : {}).catch(complain);
      if (child) go(`/chat?session=${child.id}`);
    },
    revert: async (turn) => {
      const done = await write("POST", `${at(this.id)}/revert`, { turn: turn.id }).then(() => true, complain);
      if (done) toast("Taken back: it and all after it.", { undo: () => this.act.unrevert() });
    },
    unrevert: () => write("POST", `${at(this.id)}/unrevert`).catch(complain),
    clear: async () => {
      const cleared = await write("POST", `${at(this.id)}/clear`).catch(complain);
      if (cleared) toast(`Context ${cleared.context} begins: the agent starts with a clean slate.`);
    },
    rewrite: (message, text) => {
      this.rewriting = { id: message.id, text, key: freshKey() };
      this.soon();
    },
    /** An edited message is a fork before it, and the new words in there. */
    resend: async (message) => {
      const text = this.rewriting.text;
      if (!text.trim()) return;
      const { key } = this.rewriting;
      try {
        const child = await this.forkBefore(message.turn, `${key}-fork`);
        await write("POST", `${at(child.id)}/turns`, { input: text }, { key });
        this.rewriting = { id: null, text: "" };
        go(`/chat?session=${child.id}`);
      } catch (error) {
        complain(error);
      }
    },
  };

  /** Right before a turn was asked for: all that was said until then, however it came to be said. */
  async forkBefore(turn, key) {
    const path = `${at(this.id)}/fork`;
    const first = await get(`${at(this.id)}/events`, { turn, limit: 1 });
    try {
      return await write("POST", path, { at: first.items[0].seq - 1 }, { key });
    } catch (error) {
      if (error.field !== "at") throw error;
    }
    // It was asked for while another one ran: after the end of that one.
    const asked = first.items[0].at;
    const before = this.turns.filter((other) => other.id !== turn && other.queued_at < asked && !other.superseded_by && !other.reverted);
    return write("POST", path, { at: before.at(-1)?.id }, { key: `${key}-after` });
  }

  async older() {
    if (this.loadingOlder || !this.conversation?.hasMore) return;
    this.loadingOlder = true;
    const box = this.scroller;
    const fromEnd = box.scrollHeight - box.scrollTop;
    await this.conversation.older().catch(complain);
    cancelAnimationFrame(this.drawing);
    this.drawing = 0;
    this.draw();
    box.scrollTop = box.scrollHeight - fromEnd;
    this.loadingOlder = false;
  }

  shortcut(event) {
    if (event.isComposing) return;
    if (event.key === "Escape" && !this.picker.open && this.busy && event.target === this.input) this.stop();
  }

  // ---- what is shown

  draw() {
    if (this.stops.signal.aborted) return;
    const { session, conversation } = this;
    this.picker.follow(session, this.turns);
    document.title = session ? `${nameOf(session)} · Everkept` : "New session · Everkept";
    render(this.view(), this.root);
    if (conversation?.session && !this.shownOnce) {
      this.shownOnce = true;
      this.follows = true;
      performance.mark("conversation-shown");
    }
    if (this.follows) this.toEnd();
  }

  view() {
    const { conversation, session } = this;
    return html`<div class="chat">
      ${this.head()}
      <section id="transcript" tabindex="0" aria-label="Conversation" @scroll=${() => this.scrolled()}>
        <div class="column" role="log" aria-live="polite" aria-busy=${this.busy}>
          ${conversation?.hasMore ? html`<button type="button" id="older" class="quiet" @click=${() => this.older()}>Earlier messages</button>` : nothing}
          ${session || this.id || this.outbox.items.length ? nothing : html`<div class="hello"><h2>What shall be done?</h2><p class="soft">Whatever is said here is kept: close the page, lose the network, restart the server.</p></div>`}
          ${this.failed ? html`<p class="empty">${this.failed} <a href="/">All sessions</a></p>` : nothing}
          ${conversation?.session ? this.transcript() : nothing}
          ${this.outbox.view((text) => this.takeBack(text))}
          ${conversation ? cards([...conversation.questions.values()]) : nothing}
        </div>
      </section>
      ${this.follows || !session ? nothing : html`<button type="button" class="down" aria-label="To the end" @click=${() => ((this.follows = true), this.toEnd(), this.soon())}>↓</button>`}
      ${this.foot()}
    </div>`;
  }

  head() {
    const { session, conversation } = this;
    const usage = session?.usage;
    const tokens = tokensOf(usage);
    return html`<header class="top">
      <a class="back" href="/" aria-label="All sessions">‹</a>
      <div class="about">
        <h1><bdi>${session ? nameOf(session) : this.id ? "…" : "New session"}</bdi></h1>
        <p class="soft">${[session?.resource && oneLine(session.resource), session && session.context > 0 ? `context ${session.context}` : "", session?.archived_at ? "archived" : ""].filter(Boolean).join(" · ")}</p>
      </div>
      ${tokens !== null || usage?.cost_usd_micros !== undefined
        ? html`<span class="spent" title="What this session has cost: tokens and money">${[tokens === null ? "" : `${count(tokens)} tokens`, money(usage.cost_usd_micros)].filter(Boolean).join(" · ")}</span>`
        : nothing}
      ${conversation && !conversation.connected && session ? html`<span class="lost" role="status">reconnecting …</span>` : nothing}
      ${session ? menu(this.menuItems()) : nothing}
    </header>`;
  }

  menuItems() {
    const { session } = this;
    return [
      ["Details", () => go(`/sessions/${session.id}`)],
      ["Rename", () => rename(session)],
      ["Fork", () => this.act.fork()],
      ["New context", () => this.act.clear()],
      [session.archived_at ? "Unarchive" : "Archive", () => write("PATCH", at(session.id), { archived: !session.archived_at }).catch(complain)],
      ["Delete", () => trash(session, () => go("/"))],
    ];
  }

  /** In the order of the conversation: another answer to an earlier request stands with that request. */
  ordered(hidden) {
    const { messages, turns } = this.conversation;
    const groups = new Map();
    for (const message of messages.values()) {
      if (hidden.has(message.id) || message.role === "system") continue;
      const request = message.role === "assistant" && turns.get(message.turn)?.request_message;
      if (request && groups.has(request)) groups.get(request).push(message);
      else groups.set(message.id, [message]);
    }
    // A message that was edited while it waited is a newer one, but its turn kept its place.
    const queuedAt = ([first]) => turns.get(first.turn)?.queued_at;
    const list = [...groups.values()];
    const inTurn = list.filter(queuedAt).sort((a, b) => (queuedAt(a) < queuedAt(b) ? -1 : queuedAt(a) > queuedAt(b) ? 1 : 0));
    return list.flatMap((group) => (queuedAt(group) ? inTurn.shift() : group));
  }

  /** Whose message it is by now: a request belongs to its newest attempt. */
  turnOf(message) {
    let turn = this.conversation.turns.get(message.turn);
    while (turn?.superseded_by && this.conversation.turns.has(turn.superseded_by)) turn = this.conversation.turns.get(turn.superseded_by);
    return turn?.id ?? message.turn;
  }

  transcript() {
    const { conversation } = this;
    const hidden = new Set(this.waitingTurns.map((turn) => turn.request_message));
    const shown = this.ordered(hidden);
    const last = new Map(shown.filter((message) => message.turn).map((message) => [this.turnOf(message), message.id]));
    const latest = this.turns.filter((turn) => !turn.superseded_by && !turn.reverted).at(-1)?.id;
    return html`${repeat(
      shown,
      (message) => message.id,
      (message) => {
        const turn = conversation.turns.get(this.turnOf(message));
        const live = Boolean(turn && isOpen(turn));
        const isLast = Boolean(turn) && last.get(turn.id) === message.id;
        return html`${shownMessage(message, { chat: this, turn, live, texts: this.texts, last: isLast })}
          ${isLast ? turnLine(turn, { act: this.act, latest: turn.id === latest, answer: message }) : nothing}`;
      },
    )}
    ${conversation.plan && this.turns.find((turn) => turn.id === conversation.plan.turn && isOpen(turn)) ? plan(conversation.plan) : nothing}
    ${conversation.session.revert
      ? html`<p class="banner">Some of this conversation is taken back. <button type="button" @click=${() => this.act.unrevert()}>Bring it back</button></p>`
      : nothing}`;
  }

  foot() {
    const { conversation } = this;
    return html`<footer class="foot">
      <div class="column">
        ${conversation ? queue(this.waitingTurns, conversation.messages, () => this.soon(), this.editing) : nothing}
        ${this.picker.panel()}
        <form id="composer" @submit=${(event) => (event.preventDefault(), this.send())}>
          <textarea id="input" rows="1" aria-label="Message" placeholder=${this.busy ? "Write what comes next" : "Write to the agent"}
            @input=${(event) => (draft.keep(this.id, event.target.value), grow(event.target))} @keydown=${(event) => this.typed(event)}></textarea>
          <div class="tools">
            ${this.picker.button(this.busy)}
            <span class="space"></span>
            ${this.busy ? html`<button type="button" id="stop" @click=${() => this.stop()}>Stop</button>` : nothing}
            <button type="submit" id="send" class="primary">${this.busy ? "Queue" : "Send"}</button>
          </div>
        </form>
      </div>
    </footer>`;
  }

  typed(event) {
    const touch = matchMedia("(pointer: coarse)").matches;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch) return;
    event.preventDefault();
    this.send();
  }

  scrolled() {
    const box = this.scroller;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
    if (follows !== this.follows) {
      this.follows = follows;
      this.soon();
    }
    if (box.scrollTop < 400) this.older();
  }
}

function plan({ entries }) {
  const list = Array.isArray(entries?.json) ? entries.json.filter((entry) => entry !== null && typeof entry === "object") : [];
  if (!list.length) return nothing;
  return html`<section class="plan" aria-label="Plan"><h3>Plan</h3>
    <ul>${list.map((entry) => html`<li data-status=${entry.status ?? "pending"}><bdi>${oneLine(String(entry.content ?? entry.step ?? entry.text ?? ""))}</bdi></li>`)}</ul></section>`;
}

function titleOf(text) {
  const line = oneLine(text.trim().split("\n")[0]);
  return line.length > 60 ? `${[...line].slice(0, 59).join("").trimEnd()}…` : line;
}

export const open = (root, params) => new Chat(root, params.get("session"));
