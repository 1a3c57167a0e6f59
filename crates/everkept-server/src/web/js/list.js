// All sessions: found, gone on with, put away.
// Never more of them in the page than were looked at: the list grows as it is scrolled.

import { html, nothing, render } from "../vendor/lit-html.js";
import { repeat } from "../vendor/directives/repeat.js";
import { get, given, session as at } from "./api.js";
import { restore, trash } from "./actions.js";
import { count, exactly, money, nameOf, oneLine, tokensOf, when } from "./format.js";
import { onChange } from "./feed.js";
import { agents } from "./picker.js";
import { go } from "./route.js";
import { complain } from "./toast.js";

const PAGE = 50;
const STATES = { idle: "idle", running: "running", waiting: "waiting for you" };

class List {
  constructor(root, params) {
    this.root = root;
    this.filter = Object.fromEntries(["q", "state", "agent", "resource", "shelf"].map((name) => [name, params.get(name) ?? ""]));
    this.rows = new Map();
    this.cursor = null;
    this.hasMore = false;
    this.total = null;
    this.loading = 0;
    this.kept = 0;
    this.agents = [];
    this.stops = new AbortController();
    document.title = "Sessions · Everkept";
    agents().then((list) => ((this.agents = list), this.draw()), complain);
    this.stop = onChange((hint) => this.changed(hint));
    addEventListener("keydown", (event) => this.key(event), { signal: this.stops.signal });
    this.draw();
    this.watcher = new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && this.more(), { rootMargin: "600px" });
    this.watcher.observe(root.querySelector("#more"));
    this.read();
  }

  close() {
    this.stops.abort();
    this.stop();
    this.watcher.disconnect();
    clearTimeout(this.soon);
  }

  query(more) {
    const { shelf, ...filter } = this.filter;
    // What was scrolled to stays: all that is there is read anew, not the first page.
    const limit = more ? PAGE : Math.min(1000, Math.max(PAGE, this.kept));
    const query = given({ ...filter, limit, count: more ? "" : "true", cursor: more ? this.cursor : "" });
    if (shelf === "trash") query.set("deleted", "true");
    else query.set("archived", shelf === "archive" ? "true" : "false");
    return query;
  }

  async read(more = false) {
    const turn = ++this.loading;
    try {
      const page = await get("/api/sessions", this.query(more));
      if (turn !== this.loading || this.stops.signal.aborted) return;
      if (!more) {
        this.rows.clear();
        this.total = page.total;
      }
      for (const session of page.items) this.rows.set(session.id, session);
      this.kept = this.rows.size;
      this.cursor = page.next_cursor;
      this.hasMore = page.has_more;
      this.read_once = true;
      this.draw();
      // The end may still be in sight.
      this.watcher.unobserve(this.end);
      this.watcher.observe(this.end);
    } catch (error) {
      complain(error);
    } finally {
      if (more) this.busy = false;
    }
  }

  get end() {
    return this.root.querySelector("#more");
  }

  more() {
    if (!this.hasMore || this.busy) return;
    this.busy = true;
    this.read(true);
  }

  /** One session changed: it is read and comes to its place; the rest stays as it is. */
  async changed(hint) {
    if (!hint || this.filter.q) return this.again();
    this.fresh ??= new Set();
    this.fresh.add(hint.session);
    this.soon ??= setTimeout(() => this.catchUp(), 250);
  }

  async catchUp() {
    const ids = [...this.fresh];
    this.fresh = null;
    this.soon = null;
    if (ids.length > 10 || this.filter.q || this.filter.shelf === "trash") return this.again();
    const read = (id) => get(at(id)).catch((error) => (error.status === 404 ? { id, absent: true } : null));
    for (const session of await Promise.all(ids.map(read))) {
      if (!session) continue;
      const had = this.rows.delete(session.id);
      const fits = !session.absent && this.fits(session);
      if (fits) this.rows.set(session.id, session);
      // One that comes or goes may have been counted further down.
      if (had !== fits) this.again();
    }
    const newest = (a, b) => (a.updated_at < b.updated_at ? 1 : a.updated_at > b.updated_at ? -1 : a.id < b.id ? 1 : -1);
    this.rows = new Map([...this.rows.values()].sort(newest).map((session) => [session.id, session]));
    if (!this.stops.signal.aborted) this.draw();
  }

  fits(session) {
    const { state, agent, resource, shelf } = this.filter;
    if (shelf === "trash" || Boolean(session.archived_at) !== (shelf === "archive")) return false;
    return (!state || session.state === state) && (!agent || session.agent === agent) && (!resource || session.resource === resource);
  }

  again() {
    clearTimeout(this.waits);
    this.waits = setTimeout(() => this.stops.signal.aborted || this.read(), 300);
  }

  set(name, value) {
    this.filter[name] = value;
    this.kept = 0;
    const query = given(this.filter).toString();
    history.replaceState(null, "", query ? `/?${query}` : "/");
    this.draw();
    clearTimeout(this.waits);
    this.waits = setTimeout(() => this.stops.signal.aborted || this.read(), name === "q" || name === "resource" ? 200 : 0);
  }

  key(event) {
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typing) {
      event.preventDefault();
      return this.root.querySelector("#search").focus();
    }
    if (event.key === "Escape" && event.target.id === "search") return event.target.value ? this.set("q", "") : event.target.blur();
    if (typing && event.target.id !== "search") return;
    const rows = [...this.root.querySelectorAll(".row")];
    const here = rows.indexOf(document.activeElement?.closest(".row"));
    const step = { ArrowDown: 1, ArrowUp: -1, ...(typing ? {} : { j: 1, k: -1 }) }[event.key];
    if (step) {
      event.preventDefault();
      rows[Math.max(0, Math.min(rows.length - 1, here + step))]?.querySelector(".title").focus();
    } else if (event.key === "Delete" && here >= 0 && !typing) this.remove(this.rows.get(rows[here].dataset.session));
  }

  remove(session) {
    if (this.filter.shelf === "trash") return restore(session).then(() => this.again());
    return trash(session, () => this.again());
  }

  row(session) {
    const tokens = tokensOf(session.usage);
    const agent = session.agent ?? session.agent_sessions.at(-1)?.agent ?? "";
    const trashed = this.filter.shelf === "trash";
    return html`<li class="row" data-session=${session.id} data-state=${session.state}>
      <a class="title" href=${trashed ? `/?shelf=trash` : `/chat?session=${session.id}`}><bdi>${nameOf(session)}</bdi></a>
      <span class="agent soft"><bdi>${[agent, session.model].filter(Boolean).map(oneLine).join(" · ")}</bdi></span>
      <span class="owner soft"><bdi>${session.resource ? oneLine(session.resource) : ""}</bdi></span>
      <span class="state" data-state=${session.state}>${STATES[session.state] ?? session.state}</span>
      <time class="at soft" datetime=${session.updated_at} title=${exactly(session.updated_at)}>${when(session.updated_at)}</time>
      <span class="tokens soft">${tokens === null ? "" : html`${count(tokens)}<span class="unit"> tokens</span>`}</span>
      <span class="cost soft">${money(session.usage.cost_usd_micros)}</span>
      <span class="acts">
        ${trashed
          ? html`<small class="soft">${session.purge_at ? `until ${when(session.purge_at)}` : ""}</small><button type="button" @click=${() => this.remove(session)}>Restore</button>`
          : html`<a class="button" href=${`/chat?session=${session.id}`} aria-label=${`Continue ${nameOf(session)}`}>Continue</a>
              <a class="button quiet" href=${`/sessions/${session.id}`} aria-label=${`Details of ${nameOf(session)}`}>Details</a>
              <button type="button" class="quiet" aria-label=${`Delete ${nameOf(session)}`} @click=${() => this.remove(session)}>Delete</button>`}
      </span>
    </li>`;
  }

  draw() {
    const { filter } = this;
    const pick = (name) => (event) => this.set(name, event.target.value);
    const filtered = Object.values(filter).some(Boolean);
    render(
      html`<div class="page">
        <header class="bar">
          <h1>Sessions ${this.total === null ? nothing : html`<small class="soft">${this.total.toLocaleString()}</small>`}</h1>
          <button type="button" class="primary" @click=${() => go("/chat")}>New session</button>
        </header>
        <search class="filters">
          <input id="search" type="search" placeholder="Search titles and messages" aria-label="Search titles and messages" autocomplete="off" .value=${filter.q} @input=${pick("q")}>
          <select aria-label="State" .value=${filter.state} @change=${pick("state")}>
            <option value="">Any state</option>${Object.entries(STATES).map(([state, label]) => html`<option value=${state} .selected=${state === filter.state}>${label}</option>`)}
          </select>
          <select aria-label="Agent" @change=${pick("agent")}>
            <option value="">Any agent</option>${this.agents.map(({ name }) => html`<option value=${name} .selected=${name === filter.agent}>${name}</option>`)}
          </select>
          <input type="text" placeholder="Owner" aria-label="Owner" autocomplete="off" .value=${filter.resource} @input=${pick("resource")}>
          <select aria-label="Shelf" @change=${pick("shelf")}>
            ${[["", "Kept"], ["archive", "Archived"], ["trash", "Trash"]].map(([shelf, label]) => html`<option value=${shelf} .selected=${shelf === filter.shelf}>${label}</option>`)}
          </select>
        </search>
        <ul class="rows" aria-label="Sessions">${repeat(this.rows.values(), (session) => session.id, (session) => this.row(session))}</ul>
        ${this.rows.size === 0 && this.read_once ? html`<p class="empty">${filtered ? "Nothing found." : "No sessions yet. Begin one, and it is kept."}</p>` : nothing}
        <p id="more" class="soft" ?hidden=${!this.hasMore}>…</p>
      </div>`,
      this.root,
    );
  }
}

export const open = (root, params) => new List(root, params);
