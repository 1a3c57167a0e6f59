// All there is to know of one session: its facts, its turns in time, its agent's sessions, its family, its log.
// Never an event in other words: the raw view is the log's own JSON.

import { html, nothing, render } from "../vendor/lit-html.js";
import { repeat } from "../vendor/directives/repeat.js";
import { get, given, session as at, write } from "./api.js";
import { menu, rename, trash } from "./actions.js";
import { onChange } from "./feed.js";
import { count, exactly, lasting, money, nameOf, oneLine, plainly, size, spent, tokensOf, when, words } from "./format.js";
import { go } from "./route.js";
import { complain, toast } from "./toast.js";

const PAGE = 200;

class Detail {
  constructor(root, id) {
    this.root = root;
    this.id = id;
    this.summary = null;
    this.family = null;
    this.turns = [];
    this.messages = [];
    this.events = [];
    this.total = null;
    this.hasMore = false;
    this.filter = { context: "", kind: "", turn: "" };
    this.raw = false;
    this.failed = null;
    document.title = "Session · Everkept";
    this.draw();
    this.read();
    this.stop = onChange((hint) => {
      if (!hint || hint.session === id) this.again();
    });
  }

  close() {
    this.closed = true;
    this.stop();
    clearTimeout(this.soon);
  }

  again() {
    this.soon ??= setTimeout(() => ((this.soon = null), this.read()), 500);
  }

  async read() {
    try {
      const [summary, turns, messages, family] = await Promise.all([
        get(`${at(this.id)}/summary`),
        get(`${at(this.id)}/turns`, { last: 200 }),
        get(`${at(this.id)}/messages`, { last: 100 }),
        get(`${at(this.id)}/forks`).catch(() => null),
      ]);
      Object.assign(this, { summary, turns: turns.items, moreTurns: turns.has_more, messages: messages.items, moreMessages: messages.has_more });
      this.family = await this.root_of(summary.session, family);
      await this.readEvents();
      this.failed = null;
    } catch (error) {
      this.failed = error.status === 404 || error.status === 400 ? "There is no such session." : error.message;
    }
    this.draw();
  }

  /** The tree begins at the oldest one that may be seen. */
  async root_of(session, family) {
    let top = session;
    for (let depth = 0; top.parent && depth < 32; depth++) {
      const parent = await get(at(top.parent.session)).catch(() => null);
      if (!parent) break;
      top = parent;
    }
    return top.id === session.id ? family : get(`${at(top.id)}/forks`).catch(() => family);
  }

  query() {
    const { context, kind, turn } = this.filter;
    return given({ context, kind, turn, limit: PAGE });
  }

  async readEvents() {
    const query = this.query();
    query.set("count", "true");
    const wanted = Math.max(PAGE, Math.min(1000, this.events.length));
    query.set("limit", wanted);
    const asked = (this.asked = Symbol("asked"));
    const page = await get(`${at(this.id)}/events`, query);
    // Another filter was chosen meanwhile.
    if (asked !== this.asked) return;
    Object.assign(this, { events: page.items, total: page.total, hasMore: page.has_more });
  }

  async more() {
    const query = this.query();
    query.set("after", this.events.at(-1).seq);
    const { asked } = this;
    const page = await get(`${at(this.id)}/events`, query).catch(complain);
    if (!page || asked !== this.asked) return;
    this.events.push(...page.items);
    this.hasMore = page.has_more;
    this.draw();
  }

  set(name, value) {
    this.filter[name] = value;
    this.events = [];
    this.readEvents().then(() => this.draw(), complain);
  }

  draw() {
    if (this.closed) return;
    const session = this.summary?.session;
    if (session) document.title = `${nameOf(session)} · details · Everkept`;
    render(
      html`<div class="page">
        ${this.failed ? html`<p class="empty">${this.failed} <a href="/">All sessions</a></p>` : nothing}
        ${session ? this.view(session) : nothing}
      </div>`,
      this.root,
    );
  }

  view(session) {
    return html`<header class="bar">
        <h1><bdi>${nameOf(session)}</bdi></h1>
        <a class="button primary" href=${`/chat?session=${session.id}`}>Continue conversation</a>
        ${menu([
          ["Rename", () => rename(session)],
          ["Delete", () => trash(session, () => go("/"))],
        ])}
      </header>
      ${this.facts(session)} ${this.exports(session)}
      <section id="contexts"><h2>Contexts</h2>${this.contexts()}</section>
      <section id="timing"><h2>Turns</h2>${this.timing()}</section>
      <section id="messages"><h2>Messages</h2>${this.said()}</section>
      <section id="agent-sessions"><h2>Agent sessions</h2>${this.agentSessions(session)}</section>
      ${session.rules.length ? html`<section id="rules"><h2>Always allowed</h2>${this.rules(session)}</section>` : nothing}
      ${this.family && (this.family.children.length || session.parent) ? html`<section id="family"><h2>Forks</h2>${this.tree(this.family)}</section>` : nothing}
      <section id="log"><h2>Events</h2>${this.log()}</section>`;
  }

  facts(session) {
    const facts = [
      ["Agent", session.agent ?? "the default"],
      ["Model", session.model ?? "the agent's own"],
      ["Owner", session.resource],
      ["Thread", session.thread],
      ["Directory", session.directory],
      ["State", session.state],
      ["Begun", exactly(session.created_at)],
      ["Last activity", exactly(session.updated_at)],
      ["Archived", session.archived_at && exactly(session.archived_at)],
      ["Id", session.id],
    ].filter(([, value]) => value);
    const { usage } = this.summary;
    return html`<div class="figures">
        <div><strong>${this.summary.turns.toLocaleString()}</strong><span class="soft">turns</span></div>
        <div><strong>${this.summary.messages.toLocaleString()}</strong><span class="soft">messages</span></div>
        <div><strong>${this.summary.events.toLocaleString()}</strong><span class="soft">events</span></div>
        <div><strong>${count(tokensOf(usage)) || "–"}</strong><span class="soft">tokens</span></div>
        <div><strong>${money(usage.cost_usd_micros) || "–"}</strong><span class="soft">cost${usage.priced_on ? ` by the prices of ${usage.priced_on}` : ""}</span></div>
      </div>
      <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd><bdi>${oneLine(String(value))}</bdi></dd></div>`)}</dl>`;
  }

  exports(session) {
    const to = (format) => `${at(session.id)}/export?format=${format}`;
    return html`<p class="exports">Export:
      <a href=${to("jsonl")} download>JSONL (every event)</a> <a href=${to("markdown")} download>Markdown</a> <a href=${to("html")} download>HTML (one file)</a></p>`;
  }

  contexts() {
    return html`<div class="table" tabindex="0"><table><thead><tr><th>Context</th><th>Turns</th><th>Events</th><th>From</th><th>To</th></tr></thead>
      <tbody>${this.summary.contexts.map((context) => html`<tr><td><button type="button" class="quiet" @click=${() => this.set("context", String(context.context))}>${context.context}</button></td><td>${context.turns}</td><td>${context.events}</td><td>${exactly(context.first_at)}</td><td>${exactly(context.last_at)}</td></tr>`)}</tbody></table></div>`;
  }

  timing() {
    const longest = Math.max(1, ...this.turns.map((turn) => span(turn.queued_at, turn.ended_at)));
    const share = (ms) => `${Math.max(0.4, (ms / longest) * 100).toFixed(2)}%`;
    const bar = (turn) => {
      const waited = span(turn.queued_at, turn.started_at ?? turn.ended_at);
      const ran = turn.started_at ? span(turn.started_at, turn.ended_at) : 0;
      return html`<svg class="timing" preserveAspectRatio="none" role="img" aria-label=${`waited ${Math.round(waited)} ms, ran ${Math.round(ran)} ms`}>
        <rect class="waited" width=${share(waited)} height="100%"></rect><rect class="ran" x=${share(waited)} width=${share(ran)} height="100%"></rect></svg>`;
    };
    return html`${this.moreTurns ? html`<p class="soft">The newest 200.</p>` : nothing}<div class="table" tabindex="0"><table><thead><tr><th>Queued</th><th>State</th><th>Agent</th><th>Waited</th><th>Ran</th><th class="wide"><span class="unseen">Timing</span></th><th>Cost</th><th><span class="unseen">More</span></th></tr></thead>
      <tbody>${this.turns.map(
        (turn) => html`<tr data-turn=${turn.id}><td title=${exactly(turn.queued_at)}>${when(turn.queued_at)}</td>
          <td class=${turn.state === "completed" ? "" : "bad"}>${words(turn.state)}${turn.superseded_by ? " (tried again)" : turn.reverted ? " (taken back)" : ""}</td>
          <td><bdi>${[turn.agent, turn.model].filter(Boolean).map(oneLine).join(" · ")}</bdi></td>
          <td>${turn.started_at ? lasting(turn.queued_at, turn.started_at) : ""}</td><td>${turn.started_at ? lasting(turn.started_at, turn.ended_at) : ""}</td>
          <td class="wide">${bar(turn)}</td><td>${turn.usage ? spent(turn.usage) : ""}</td>
          <td class="acts"><button type="button" class="quiet" @click=${() => this.set("turn", turn.id)}>Events</button> <a class="quiet" href=${`${at(this.id)}/raw?turn=${turn.id}`} download=${`${turn.id}.raw`}>Bytes</a></td></tr>`,
      )}</tbody></table></div>`;
  }

  /** Who said what with which model, and what it cost: of an answer, what its own report says, else its turn's. */
  said() {
    const turns = new Map(this.turns.map((turn) => [turn.id, turn]));
    const row = (message) => {
      const turn = message.role === "assistant" ? turns.get(message.turn) : null;
      const usage = message.usage ?? (turn?.response_messages.at(-1) === message.id ? turn.usage : null) ?? {};
      const [provider, ...model] = (turn?.model ?? "").split("/");
      const text = message.parts.filter((part) => part.type === "text").map((part) => part.text).join(" ");
      const first = oneLine(text);
      return html`<tr><td title=${exactly(message.created_at)}>${when(message.created_at)}</td><td>${message.role}</td>
        <td><bdi>${turn ? oneLine(turn.agent) : ""}</bdi></td><td><bdi>${oneLine(model.join("/"))}</bdi></td><td><bdi>${oneLine(provider)}</bdi></td>
        <td>${count(usage.input_tokens)}</td><td>${count(usage.output_tokens)}</td><td>${count(usage.reasoning_tokens)}</td><td>${message.parts.length}</td>
        <td class="wide"><span class="gist" dir="auto">${first.length > 120 ? `${first.slice(0, 119)}…` : first}</span></td></tr>`;
    };
    return html`${this.moreMessages ? html`<p class="soft">The newest 100.</p>` : nothing}<div class="table" tabindex="0"><table><thead><tr><th>Time</th><th>Role</th><th>Agent</th><th>Model</th><th>Provider</th><th>In</th><th>Out</th><th>Reasoning</th><th>Parts</th><th class="wide">Says</th></tr></thead>
      <tbody>${this.messages.map(row)}</tbody></table></div>`;
  }

  agentSessions(session) {
    if (!session.agent_sessions.length) return html`<p class="soft">No agent has a session of its own yet.</p>`;
    return html`<div class="table" tabindex="0"><table><thead><tr><th>Agent</th><th>Context</th><th>Session</th><th>Because</th><th>When</th></tr></thead>
      <tbody>${session.agent_sessions.map(
        (own) => html`<tr><td><bdi>${own.agent}</bdi></td><td>${own.context}</td><td><code>${plainly(own.first)}</code></td><td>pinned: the first${own.current === own.first ? ", in use" : ""}</td><td></td></tr>
          ${own.successors.map((next) => html`<tr><td></td><td></td><td><code>${plainly(next.id)}</code></td><td>${words(next.cause)}${next.id === own.current ? ", in use" : ""}</td><td>${exactly(next.at)}</td></tr>`)}`,
      )}</tbody></table></div>`;
  }

  rules(session) {
    const remove = async (rule) => {
      const gone = await write("DELETE", `${at(session.id)}/rules/${rule.id}`).then(() => true, complain);
      if (gone) toast("Revoked: it is asked again."), this.again();
    };
    return html`<div class="table" tabindex="0"><table><thead><tr><th>Call</th><th>Agent</th><th>Since</th><th><span class="unseen">Actions</span></th></tr></thead>
      <tbody>${repeat(session.rules, (rule) => rule.id, (rule) => html`<tr><td><bdi>${oneLine(rule.title)}</bdi><br><code class="soft">${rule.digest.slice(0, 16)}…</code></td><td><bdi>${rule.agent}</bdi></td><td>${exactly(rule.created_at)}</td><td class="acts"><button type="button" @click=${() => remove(rule)}>Revoke</button></td></tr>`)}</tbody></table></div>`;
  }

  tree(node) {
    return html`<ul class="tree"><li>
      ${node.id === this.id ? html`<strong><bdi>${nameOf(node)}</bdi></strong>` : html`<a href=${`/sessions/${node.id}`}><bdi>${nameOf(node)}</bdi></a>`}
      <small class="soft">${node.parent ? `${node.parent.kind} after event ${node.parent.seq} · ` : ""}${when(node.updated_at)}</small>
      ${node.children.map((child) => this.tree(child))}</li></ul>`;
  }

  log() {
    const { kinds, contexts } = this.summary;
    const choose = (name) => (event) => this.set(name, event.target.value);
    const option = (value, label, name) => html`<option value=${value} .selected=${String(value) === this.filter[name]}>${label}</option>`;
    return html`<div class="filters">
        <select aria-label="Context" @change=${choose("context")}>${option("", "All contexts", "context")}${contexts.map(({ context }) => option(context, `Context ${context}`, "context"))}</select>
        <select aria-label="Kind" @change=${choose("kind")}>${option("", "All kinds", "kind")}${Object.entries(kinds).map(([kind, number]) => option(kind, `${kind} (${number})`, "kind"))}</select>
        <select aria-label="Turn" @change=${choose("turn")}>${option("", "All turns", "turn")}${this.turns.map((turn, place) => option(turn.id, `Turn ${place + 1}, ${when(turn.queued_at)}`, "turn"))}</select>
        <label class="check"><input type="checkbox" .checked=${this.raw} @change=${(event) => ((this.raw = event.target.checked), this.draw())}> Raw</label>
        <small class="soft">${this.total === null ? "" : `${this.total.toLocaleString()} events`}</small>
      </div>
      ${this.raw ? html`<pre class="raw" tabindex="0">${this.events.map((event) => plainly(JSON.stringify(event))).join("\n")}</pre>` : this.byContext()}
      ${this.hasMore ? html`<button type="button" @click=${() => this.more()}>More</button>` : nothing}`;
  }

  byContext() {
    const groups = [];
    for (const event of this.events) {
      if (groups.at(-1)?.context !== event.context) groups.push({ context: event.context, events: [] });
      groups.at(-1).events.push(event);
    }
    return groups.map(
      ({ context, events }) => html`<h3 class="context">Context ${context}</h3>
        <ol class="events">${events.map(
          (event) => html`<li><details><summary><span class="seq">${event.seq}</span><time datetime=${event.at} title=${exactly(event.at)}>${clock(event.at)}</time><code>${event.kind}</code><span class="gist" dir="auto">${gist(event)}</span></summary>
            <pre tabindex="0">${plainly(JSON.stringify(event, null, 2))}</pre></details></li>`,
        )}</ol>`,
    );
  }
}

const span = (from, to) => Math.max(0, (to ? new Date(to) : new Date()) - new Date(from));

const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

/** What an event is about, in one line. */
function gist({ data }) {
  const text = data.text ?? data.title ?? data.state ?? data.because ?? data.role ?? data.name ?? data.agent ?? "";
  const parts = Array.isArray(data.parts) ? data.parts.map((part) => part.text ?? part.name ?? "").join(" ") : "";
  const line = oneLine([data.role && data.role !== text ? data.role : "", String(text), parts].filter(Boolean).join(": "));
  const said = line.length > 160 ? `${line.slice(0, 159)}…` : line;
  return data.bytes !== undefined && !said ? size(data.bytes) : said;
}

export const open = (root, params) => new Detail(root, params.get("session"));
