// What runs, what hangs, what waits, what was given up, and what it cost.
// Never a figure of this page's own: it shows what the server says, and when it said it.

import { html, nothing, render } from "../vendor/lit-html.js";
import { repeat } from "../vendor/directives/repeat.js";
import { get, session as at, turn as atTurn, write } from "./api.js";
import { onChange } from "./feed.js";
import { count, exactly, lasting, money, nameOf, oneLine, tokensOf, when, words } from "./format.js";
import { isOpen } from "./conversation.js";
import { bars } from "./plot.js";
import { cards, onWaiting } from "./questions.js";
import { complain, toast } from "./toast.js";

/** A running turn of which nothing was heard for so long is shown as overdue. */
const OVERDUE_MS = 60_000;
const EVERY_MS = 10_000;
const DAYS = 30;
const METRICS = { cost: ["Cost", (sum) => sum.usage.cost_usd_micros ?? 0, money], tokens: ["Tokens", (sum) => tokensOf(sum.usage) ?? 0, (value) => count(Math.round(value))], turns: ["Turns", (sum) => sum.turns, (value) => count(Math.round(value))] };

class Operations {
  constructor(root) {
    this.root = root;
    this.running = [];
    this.letters = [];
    this.breakers = [];
    this.usage = null;
    this.questions = [];
    this.metric = "cost";
    this.apart = "agent";
    this.editing = null;
    this.read_at = null;
    document.title = "Operations · Everkept";
    this.unwatch = onWaiting((questions) => ((this.questions = questions), this.draw()));
    this.stop = onChange(() => this.again());
    this.clock = setInterval(() => (this.read(), this.readUsage()), EVERY_MS);
    this.draw();
    this.read();
    this.readUsage();
  }

  close() {
    this.unwatch();
    this.stop();
    clearInterval(this.clock);
    clearTimeout(this.soon);
    this.closed = true;
  }

  again() {
    this.soon ??= setTimeout(() => ((this.soon = null), this.read()), 400);
  }

  async read() {
    try {
      const [running, letters, breakers] = await Promise.all([
        get("/api/sessions", { state: "running", limit: 100, count: "true" }),
        get("/api/dead-letters", { limit: 100 }),
        get("/api/breakers").catch((error) => (error.status === 403 ? { items: [] } : Promise.reject(error))),
      ]);
      this.total = running.total;
      this.running = await Promise.all(running.items.map((session) => this.work(session)));
      this.letters = letters.items;
      this.breakers = breakers.items;
      this.read_at = new Date();
      this.complained = false;
      if (!this.closed) this.draw();
    } catch (error) {
      if (!this.closed && !this.complained) complain(error);
      this.complained = true;
    }
  }

  /** The turn a session runs; of one that runs for long, when it last said something. */
  async work(session) {
    const page = await get(`${at(session.id)}/turns`, { last: 20 }).catch(() => ({ items: [] }));
    const turns = page.items.filter(isOpen);
    const turn = turns.find((turn) => turn.state === "running") ?? turns[0];
    const runs = turn?.state === "running" && Date.now() - new Date(turn.started_at) > OVERDUE_MS;
    const summary = runs ? await get(`${at(session.id)}/summary`).catch(() => null) : null;
    const heard = summary?.contexts.at(-1)?.last_at;
    const overdue = Boolean(heard) && Date.now() - new Date(heard) > OVERDUE_MS;
    return { session, turn, queued: turns.length - (turn ? 1 : 0), overdue, heard };
  }

  async readUsage() {
    const from = new Date(Date.now() - (DAYS - 1) * 86_400_000).toISOString().slice(0, 10);
    this.usage = await get("/api/usage", { from, by: `day,${this.apart}` }).catch(() => this.usage);
    if (!this.closed) this.draw();
  }

  row({ session, turn, queued, overdue, heard }) {
    return html`<tr class=${overdue ? "overdue" : ""}>
      <td><a href=${`/chat?session=${session.id}`}><bdi>${nameOf(session)}</bdi></a></td>
      <td>${turn ? oneLine([turn.agent, turn.model].filter(Boolean).join(" · ")) : ""}</td>
      <td>${turn ? words(turn.cancelling ? "stopping" : turn.state) : ""}${queued > 0 ? html` <small class="soft">+${queued} queued</small>` : nothing}</td>
      <td>${turn?.started_at ? lasting(turn.started_at) : turn?.tries?.not_before ? `tried again at ${when(turn.tries.not_before)}` : ""}</td>
      <td>${overdue ? html`<strong class="warn">silent for ${lasting(heard)}</strong>` : nothing}</td>
      <td class="acts">${turn ? html`<button type="button" @click=${() => write("POST", `${atTurn(turn.id)}/cancel`).catch(complain)}>Stop</button>` : nothing}</td>
    </tr>`;
  }

  letter({ turn, input }) {
    const text = input.filter((part) => part.type === "text").map((part) => part.text).join("");
    const editing = this.editing?.id === turn.id;
    return html`<article class="letter" data-turn=${turn.id}>
      <header><a href=${`/chat?session=${turn.session}`}>${when(turn.ended_at)}</a> <strong>${oneLine([turn.agent, turn.model].filter(Boolean).join(" · "))}</strong>
        <span class="bad">${oneLine(turn.error?.message ?? words(turn.reason ?? ""))}</span>
        <small class="soft">attempt ${turn.attempt}, opened in vain ${turn.tries.opening} times</small></header>
      ${editing
        ? html`<textarea rows="3" aria-label="Request" .value=${this.editing.text} @input=${(event) => (this.editing.text = event.target.value)}></textarea>`
        : html`<p class="text plain" dir="auto">${text}</p>`}
      <div class="options">
        ${editing
          ? html`<button type="button" class="primary" @click=${() => this.takeUp(turn, { input: this.editing.text })}>Send edited</button>
              <button type="button" @click=${() => ((this.editing = null), this.draw())}>Cancel</button>`
          : html`<button type="button" class="primary" @click=${() => this.takeUp(turn, {})}>Retry</button>
              <button type="button" @click=${() => ((this.editing = { id: turn.id, text }), this.draw())}>Edit</button>
              <button type="button" @click=${() => this.putAway(turn)}>Drop</button>`}
      </div>
    </article>`;
  }

  async takeUp(turn, body) {
    const taken = await write("POST", `/api/dead-letters/${turn.id}/retry`, body).catch(complain);
    if (!taken) return;
    this.editing = null;
    toast("Taken up again.");
    this.read();
  }

  async putAway(turn) {
    await write("DELETE", `/api/dead-letters/${turn.id}`).catch(complain);
    this.read();
  }

  plots() {
    if (!this.usage) return nothing;
    const [label, amount, show] = METRICS[this.metric];
    const days = Array.from({ length: DAYS }, (_, ago) => new Date(Date.now() - (DAYS - 1 - ago) * 86_400_000).toISOString().slice(0, 10));
    const series = new Map();
    for (const sum of this.usage.items) {
      const name = oneLine(sum[this.apart] ?? (this.apart === "model" ? "the agent's own" : "nobody"));
      if (!series.has(name)) series.set(name, { name, values: new Map() });
      series.get(name).values.set(sum.day, amount(sum));
    }
    const total = this.usage.total;
    return html`<div class="figures">
        <div><strong>${money(total.usage.cost_usd_micros ?? 0)}</strong><span class="soft">in ${DAYS} days${total.turns_without_cost ? `, ${total.turns_without_cost.toLocaleString()} turns without a known cost` : ""}</span></div>
        <div><strong>${count(tokensOf(total.usage) ?? 0)}</strong><span class="soft">tokens</span></div>
        <div><strong>${total.turns.toLocaleString()}</strong><span class="soft">turns</span></div>
      </div>
      ${[...series.values()].some(({ values }) => [...values.values()].some(Boolean)) ? bars({ label: `${label} per day`, days, series: [...series.values()], show }) : html`<p class="soft">Nothing to plot yet.</p>`}
      <details><summary>As a table</summary><div class="table" tabindex="0"><table><thead><tr><th>Day</th><th>${words(this.apart)}</th><th>Turns</th><th>Tokens</th><th>Cost</th></tr></thead>
        <tbody>${this.usage.items.map((sum) => html`<tr><td>${sum.day}</td><td><bdi>${oneLine(sum[this.apart] ?? "")}</bdi></td><td>${sum.turns}</td><td>${count(tokensOf(sum.usage))}</td><td>${money(sum.usage.cost_usd_micros)}</td></tr>`)}</tbody></table></div></details>`;
  }

  draw() {
    const overdue = this.running.filter((work) => work.overdue);
    const choose = (name, then) => (event) => ((this[name] = event.target.value), then());
    render(
      html`<div class="page">
        <header class="bar"><h1>Operations</h1><small class="soft">${this.read_at ? `as of ${exactly(this.read_at)}` : ""}</small></header>
        <div class="figures">
          <div><strong>${this.total ?? 0}</strong><span class="soft">running</span></div>
          <div class=${overdue.length ? "warn" : ""}><strong>${overdue.length}</strong><span class="soft">overdue</span></div>
          <div class=${this.questions.length ? "warn" : ""}><strong>${this.questions.length}</strong><span class="soft">waiting</span></div>
          <div class=${this.letters.length ? "warn" : ""}><strong>${this.letters.length}</strong><span class="soft">dead letters</span></div>
          <div class=${this.breakers.some((breaker) => breaker.state !== "closed") ? "warn" : ""}><strong>${this.breakers.filter((breaker) => breaker.state !== "closed").length}</strong><span class="soft">open breakers</span></div>
        </div>
        <section id="running"><h2>Running and overdue</h2>
          ${this.running.length
            ? html`<div class="table" tabindex="0"><table><thead><tr><th>Session</th><th>Agent</th><th>State</th><th>For</th><th>Overdue</th><th><span class="unseen">Actions</span></th></tr></thead>
                <tbody>${repeat([...overdue, ...this.running.filter((work) => !work.overdue)], ({ session }) => session.id, (work) => this.row(work))}</tbody></table></div>`
            : html`<p class="soft">Nothing runs.</p>`}</section>
        <section id="waiting"><h2>Waiting for you</h2>${this.questions.length ? cards(this.questions, ({ session }) => ({ id: session, title: "Conversation" })) : html`<p class="soft">Nothing waits.</p>`}</section>
        <section id="letters"><h2>Dead letters</h2>${this.letters.length ? repeat(this.letters, ({ turn }) => turn.id, (letter) => this.letter(letter)) : html`<p class="soft">Nothing was given up.</p>`}</section>
        <section id="breakers"><h2>Breakers</h2>
          ${this.breakers.length
            ? html`<div class="table" tabindex="0"><table><thead><tr><th>Agent</th><th>Model</th><th>State</th><th>Failures in a row</th><th>Closed again</th></tr></thead>
                <tbody>${this.breakers.map((breaker) => html`<tr class=${breaker.state === "open" ? "overdue" : ""}><td><bdi>${breaker.agent}</bdi></td><td><bdi>${oneLine(breaker.model ?? "")}</bdi></td><td>${words(breaker.state)}</td><td>${breaker.failures}</td><td>${breaker.open_until ? `tried at ${when(breaker.open_until)}` : ""}</td></tr>`)}</tbody></table></div>`
            : html`<p class="soft">No agent has failed.</p>`}</section>
        <section id="usage"><h2>Usage</h2>
          <div class="filters">
            <select aria-label="What is plotted" @change=${choose("metric", () => this.draw())}>${Object.entries(METRICS).map(([name, [label]]) => html`<option value=${name}>${label}</option>`)}</select>
            <select aria-label="Told apart by" @change=${choose("apart", () => this.readUsage())}>${["agent", "model", "resource"].map((name) => html`<option value=${name}>by ${name === "resource" ? "owner" : name}</option>`)}</select>
          </div>
          ${this.plots()}</section>
      </div>`,
      this.root,
    );
  }
}

export const open = (root) => new Operations(root);
