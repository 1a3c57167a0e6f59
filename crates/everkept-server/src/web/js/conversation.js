// One session as its page knows it: a snapshot, and every event after it.
// Never the page itself: what changed is told to whoever shows it.

import { get, session as at } from "./api.js";

const AGAIN = new Set(["session.reverted", "session.restored", "context.cleared", "turn.edited", "session.archived", "rule.removed"]);
/** Within this time several reasons to read the snapshot again are one. */
const SOON = 60;

/** Its agent could not be opened, and is tried again. */
export const putOff = (turn) => turn.state === "queued" && (turn.delayed?.until ?? turn.tries?.not_before ?? null);

export const isOpen = (turn) => ["queued", "running", "waiting"].includes(turn.state);

/** Counts of both, one by one; what is no count is the newer one's. */
function added(before, more) {
  const sum = { ...before };
  for (const [name, value] of Object.entries(more)) sum[name] = typeof value === "number" ? (before[name] ?? 0) + value : value;
  return sum;
}

export class Conversation extends EventTarget {
  constructor(id) {
    super();
    this.id = id;
    this.session = null;
    this.cursor = 0;
    this.messages = new Map();
    this.turns = new Map();
    this.questions = new Map();
    this.plan = null;
    this.hasMore = false;
    this.before = null;
    this.connected = false;
    this.closed = false;
    this.stale = true;
    this.wait = 300;
  }

  /** Loads, and goes on trying while the server does not answer. `absent`: there is no such session, or (with why) none yet. */
  async open() {
    clearTimeout(this.retry);
    try {
      await this.load();
    } catch (error) {
      if (this.closed) return;
      const never = error.status === 404 || error.status === 400;
      this.tell("absent", never ? null : error.message);
      if (!never) this.later();
    }
  }

  later() {
    this.retry = setTimeout(() => this.again(), this.wait);
    this.wait = Math.min(this.wait * 1.6, 4000);
  }

  /** `change`: something is to be shown anew. `delta` with {message, part, text}: a text grew. */
  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  async load() {
    const snapshot = await get(`${at(this.id)}/snapshot`);
    if (this.closed) return;
    this.session = snapshot.session;
    this.turns = new Map(snapshot.turns.map((turn) => [turn.id, turn]));
    this.questions = new Map(snapshot.questions.map((question) => [question.id, question]));
    this.messages = new Map();
    for (const message of snapshot.messages) this.keep(message);
    this.hasMore = snapshot.has_more;
    this.before = null;
    this.cursor = snapshot.cursor;
    this.stale = false;
    this.tell("loaded");
    this.tell("change");
    this.follow();
  }

  keep(message) {
    this.messages.set(message.id, { ...message, parts: new Map(message.parts.map((part) => [part.id, part])) });
  }

  /** Messages before those that are there, and the turns they belong to: no turn is without a message. */
  async older() {
    const { messages: held } = this;
    const last = Math.min(1000, this.messages.size + 200);
    const [messages, turns] = await Promise.all([this.page("messages", this.before?.messages, last), this.page("turns", this.before?.turns, last)]);
    // Loaded anew meanwhile: this page may not go before what is there now.
    if (this.closed || held !== this.messages) return;
    const known = this.messages;
    this.messages = new Map();
    for (const message of messages.items) if (!known.has(message.id)) this.keep(message);
    for (const [id, message] of known) this.messages.set(id, message);
    this.turns = new Map([...turns.items.map((turn) => [turn.id, turn]), ...this.turns]);
    this.before = { messages: messages.next_cursor, turns: turns.next_cursor };
    this.hasMore = messages.has_more;
    this.tell("change");
  }

  page(kind, before, last) {
    if (before === null) return { items: [], next_cursor: null, has_more: false };
    return get(`${at(this.id)}/${kind}`, before ? { before, limit: 200 } : { last });
  }

  follow() {
    this.socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${at(this.id)}/socket?after=${this.cursor}`, "everkept");
    this.socket = socket;
    socket.onopen = () => {
      this.connected = true;
      this.wait = 300;
      this.tell("change");
    };
    socket.onmessage = (frame) => {
      if (socket !== this.socket) return;
      const event = JSON.parse(frame.data);
      if (event.seq === undefined) return;
      this.cursor = event.seq;
      this.apply(event);
    };
    socket.onclose = () => {
      if (socket !== this.socket || this.closed) return;
      this.connected = false;
      this.tell("change");
      this.later();
    };
  }

  /** The stream goes on at the cursor; a snapshot first tells whether the session is still there. */
  again() {
    if (this.closed) return;
    if (this.stale) return this.open();
    get(at(this.id)).then(
      (session) => {
        if (this.closed) return;
        this.session = session;
        this.follow();
      },
      (error) => {
        if (this.closed) return;
        if (error.status === 404) return this.tell("gone");
        this.later();
      },
    );
  }

  close() {
    this.closed = true;
    clearTimeout(this.retry);
    clearTimeout(this.soon);
    this.socket?.close();
  }

  reloadSoon() {
    this.stale = true;
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.open(), SOON);
  }

  apply(event) {
    const { kind, turn, at: time, data } = event;
    if (AGAIN.has(kind) || (kind === "turn.queued" && data.attempt > 1)) return this.reloadSoon();
    if (kind === "part.delta") return this.grow(data);
    const take = this.takes[kind];
    if (!take) return;
    take.call(this, { turn, time, data });
    this.tell("change");
  }

  grow({ message, part, type, text }) {
    const into = this.messages.get(message);
    if (!into) return;
    const known = into.parts.get(part);
    if (known) known.text += text;
    else into.parts.set(part, { id: part, type, text });
    this.tell(known ? "delta" : "change", { message, part, text });
  }

  tool({ message, part, ...data }) {
    const into = this.messages.get(message);
    if (!into) return;
    const known = into.parts.get(part) ?? { id: part, type: "tool" };
    for (const [name, value] of Object.entries(data)) if (value !== null && value !== undefined) known[name] = value;
    into.parts.set(part, known);
  }

  change(id, change) {
    if (id) this.turns.set(id, { ...(this.turns.get(id) ?? { id, state: "running" }), ...change });
  }

  /** A turn waits as long as one of its questions is open. */
  settled(turn, question) {
    this.questions.delete(question);
    const waits = [...this.questions.values()].some((other) => other.turn === turn);
    if (!waits && this.turns.get(turn)?.state === "waiting") this.change(turn, { state: "running" });
  }

  /** What the list of sessions knows (title, lock, usage) changed. */
  refresh() {
    clearTimeout(this.refreshSoon);
    this.refreshSoon = setTimeout(async () => {
      const fresh = await get(at(this.id)).catch(() => null);
      if (!fresh || this.closed) return;
      this.session = fresh;
      this.tell("change");
    }, SOON);
  }

  async ended(id) {
    const fresh = await get(`/api/turns/${id}`).catch(() => null);
    if (!fresh || this.closed) return;
    this.turns.set(id, fresh);
    this.tell("change");
  }

  takes = {
    "message.added"({ turn, time, data }) {
      if (!this.messages.has(data.message)) this.keep({ id: data.message, turn, role: data.role, created_at: time, parts: data.parts });
    },
    "tool.started"({ data }) {
      this.tool(data);
    },
    "tool.updated"({ data }) {
      this.tool(data);
    },
    "tool.completed"({ data }) {
      this.tool(data);
    },
    "plan.updated"({ turn, data }) {
      this.plan = { turn, entries: data.entries };
    },
    "turn.queued"({ turn, time, data }) {
      this.turns.set(turn, { id: turn, state: "queued", queued_at: time, response_messages: [], ...data });
    },
    "turn.retried"({ turn, data }) {
      this.change(turn, { superseded_by: data.by });
      this.reloadSoon();
    },
    "turn.delayed"({ turn, data }) {
      this.change(turn, { delayed: data });
    },
    "turn.started"({ turn, time }) {
      this.change(turn, { state: "running", started_at: time, delayed: null });
    },
    "turn.waiting"({ turn }) {
      this.change(turn, { state: "waiting" });
    },
    "turn.cancelling"({ turn }) {
      this.change(turn, { cancelling: true });
    },
    "turn.ended"({ turn, time, data }) {
      // What was taken back before it began was never said.
      const dropped = data.reason === "dropped" ? this.turns.get(turn) : null;
      if (dropped?.attempt > 1) return this.reloadSoon();
      if (dropped) this.messages.delete(dropped.request_message);
      this.change(turn, { ...data, ended_at: time });
      this.ended(turn);
      this.refresh();
    },
    usage({ turn, data }) {
      this.change(turn, { usage: data });
      this.refresh();
    },
    "message.usage"({ data: { message, ...used } }) {
      const into = this.messages.get(message);
      if (into) into.usage = added(into.usage ?? {}, used);
    },
    "question.asked"({ turn, time, data }) {
      const { question: id, type: kind, ...rest } = data;
      this.questions.set(id, { id, kind, session: this.id, turn, state: "open", asked_at: time, answer: null, ...rest });
    },
    "question.answered"({ turn, data }) {
      this.settled(turn, data.question);
    },
    "question.expired"({ turn, data }) {
      this.settled(turn, data.question);
    },
    "session.updated"() {
      this.refresh();
    },
    "agent_session.succeeded"() {
      this.refresh();
    },
    "agent_session.pinned"() {
      this.refresh();
    },
    "session.deleted"() {
      this.tell("gone");
    },
  };
}
