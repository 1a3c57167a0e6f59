// The first page: a list, one session live, and a line to write.
// Everything somebody wrote goes in as text (textContent), never as markup.

const $ = (id) => document.getElementById(id);
const el = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// ---- the server

async function call(method, path, body, key) {
  const headers = { "x-everkept": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key) headers["idempotency-key"] = key;
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await response.text();
  const answer = text ? JSON.parse(text) : null;
  if (!response.ok) throw Object.assign(new Error(answer?.error?.message ?? `the server said ${response.status}`), { status: response.status });
  return answer;
}

const freshKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function complain(error) {
  $("notice").textContent = error.status === 401 ? "You are signed out. Ask the server for a new login link." : error.message;
  $("notice").hidden = false;
}

const calm = () => ($("notice").hidden = true);

// ---- the list

let listed = { cursor: null, search: "" };

async function loadList(more) {
  const query = new URLSearchParams({ limit: "50" });
  if (listed.search) query.set("q", listed.search);
  if (more && listed.cursor) query.set("cursor", listed.cursor);
  const page = await call("GET", `/api/sessions?${query}`);
  listed.cursor = page.next_cursor;
  $("more").hidden = !page.has_more;
  const rows = page.items.map(row);
  if (more) $("sessions").append(...rows);
  else if (rows.length) $("sessions").replaceChildren(...rows);
  else $("sessions").replaceChildren(el("p", "", listed.search ? "Nothing found." : "No sessions yet."));
}

function row(session) {
  const link = el("a");
  link.href = `/?session=${session.id}`;
  link.dataset.session = session.id;
  if (session.id === open?.id) link.setAttribute("aria-current", "true");
  const title = el("strong", session.state, session.title ?? session.thread ?? "Untitled");
  const agent = session.agent ?? session.agent_sessions.at(-1)?.agent ?? "";
  link.append(title, el("small", "", [when(session.updated_at), agent, session.resource].filter(Boolean).join(" · ")));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(session.id);
  });
  return link;
}

function when(at) {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : date.toLocaleDateString();
}

let listSoon = 0;
function refreshList() {
  clearTimeout(listSoon);
  listSoon = setTimeout(() => loadList(false).catch(complain), 300);
}

// ---- one session

// What is shown: its state, its messages by id, its turns by id, and the stream it is fed by.
let open = null;

function go(id) {
  history.pushState(null, "", id ? `/?session=${id}` : "/?new");
  show(id);
}

function show(id) {
  open?.stream?.close();
  open = id ? { id, messages: new Map(), parts: new Map(), turns: new Map(), lines: new Map(), stream: null, session: null } : null;
  document.body.classList.toggle("open", id !== null);
  for (const link of $("sessions").querySelectorAll("a")) {
    if (link.dataset.session === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  $("messages").replaceChildren();
  $("questions").replaceChildren();
  $("older").hidden = true;
  calm();
  head();
  if (open) load(open).catch(complain);
  else $("messages").append(el("p", "empty", "Write something, and it is kept."));
}

async function load(shown) {
  const snapshot = await call("GET", `/api/sessions/${shown.id}/snapshot`);
  if (shown !== open) return;
  shown.stream?.close();
  shown.session = snapshot.session;
  shown.messages.clear();
  shown.parts.clear();
  shown.lines.clear();
  shown.turns = new Map(snapshot.turns.map((turn) => [turn.id, turn]));
  $("messages").replaceChildren();
  $("questions").replaceChildren(...snapshot.questions.map(question));
  $("older").hidden = !snapshot.has_more;
  for (const message of snapshot.messages) addMessage(message);
  for (const turn of snapshot.turns) line(turn);
  head();
  toEnd(true);
  follow(shown, snapshot.cursor);
}

function head() {
  const session = open?.session;
  $("title").textContent = session ? session.title ?? session.thread ?? "Untitled" : "New session";
  document.title = session?.title ? `${session.title} · Everkept` : "Everkept";
  const spent = session?.usage?.cost_usd_micros;
  const details = session ? [session.agent, session.model, session.resource, spent && `$${(spent / 1e6).toFixed(4)}`, session.id] : [];
  $("details").textContent = details.filter(Boolean).join(" · ");
  $("rename").hidden = $("remove").hidden = !session;
  $("agent").hidden = open !== null;
  const busy = [...(open?.turns.values() ?? [])].some((turn) => isOpen(turn));
  $("stop").hidden = !busy;
}

const isOpen = (turn) => ["queued", "running", "waiting"].includes(turn.state);

function follow(shown, cursor) {
  const stream = new EventSource(`/api/sessions/${shown.id}/events?after=${cursor}`);
  shown.stream = stream;
  for (const [kind, take] of Object.entries(takes)) {
    stream.addEventListener(kind, (event) => {
      if (shown !== open) return;
      const atEnd = isAtEnd();
      take(JSON.parse(event.data), shown);
      head();
      if (atEnd) toEnd();
    });
  }
  // The browser comes back by itself unless it was refused; then a new snapshot tells why.
  stream.onerror = () => {
    if (stream.readyState !== EventSource.CLOSED || shown !== open) return;
    setTimeout(() => shown === open && load(shown).catch(complain), 2000);
  };
}

const again = (_, shown) => load(shown).catch(complain);

const takes = {
  "message.added": ({ turn, at, data }) => {
    addMessage({ id: data.message, turn, role: data.role, created_at: at, parts: data.parts });
    if (turn && open.turns.has(turn)) line(open.turns.get(turn));
  },
  "part.delta": ({ data }) => addText(data),
  "tool.started": ({ data }) => tool(data),
  "tool.updated": ({ data }) => tool(data),
  "tool.completed": ({ data }) => tool(data),
  "turn.queued": ({ turn, data }, shown) => {
    if (data.attempt > 1) return again(null, shown);
    shown.turns.set(turn, { id: turn, state: "queued", ...data });
    line(shown.turns.get(turn));
  },
  "turn.started": ({ turn }) => setState(turn, { state: "running" }),
  "turn.waiting": ({ turn }) => setState(turn, { state: "waiting" }),
  "turn.cancelling": ({ turn }) => setState(turn, { cancelling: true }),
  "turn.ended": ({ turn, data }) => setState(turn, data),
  "question.asked": (_, shown) => questions(shown),
  "question.answered": (event, shown) => {
    const turn = shown.turns.get(event.turn);
    if (turn?.state === "waiting") setState(event.turn, { state: "running" });
    questions(shown);
  },
  "question.expired": (_, shown) => questions(shown),
  "session.updated": (_, shown) => refreshSession(shown),
  "usage": (_, shown) => refreshSession(shown),
  "turn.edited": again,
  "session.reverted": again,
  "context.cleared": again,
};

async function refreshSession(shown) {
  const session = await call("GET", `/api/sessions/${shown.id}`).catch(() => null);
  if (shown !== open || !session) return;
  shown.session = session;
  head();
}

function setState(id, change) {
  const turn = { ...(open.turns.get(id) ?? { id }), ...change };
  open.turns.set(id, turn);
  line(turn);
}

// ---- messages

function addMessage(message, before) {
  if (open.messages.has(message.id)) return;
  const box = el("article", `message ${message.role}`);
  box.dataset.turn = message.turn ?? "";
  open.messages.set(message.id, box);
  const bar = message.turn && message.role !== "user" ? open.lines.get(message.turn) : null;
  if (before) before.before(box);
  else if (bar) bar.before(box);
  else $("messages").append(box);
  for (const part of message.parts) addPart(message.id, part);
}

function addPart(message, part) {
  if (part.type === "text" || part.type === "reasoning") addText({ message, part: part.id, type: part.type, text: part.text });
  else if (part.type === "tool") tool({ ...part, message, part: part.id });
  else if (part.type === "file") file(message, part);
}

function addText({ message, part, type, text }) {
  let box = open.parts.get(part);
  if (!box) {
    const into = open.messages.get(message);
    if (!into || (type === "text" && text === "")) return;
    box = el("div", "text");
    open.parts.set(part, box);
    if (type === "reasoning") {
      const fold = el("details", "reasoning");
      fold.append(el("summary", "", "Thinking"), box);
      into.append(fold);
    } else into.append(box);
  }
  box.append(text);
}

function tool({ message, part, name, title, status, input, output }) {
  let box = open.parts.get(part);
  if (!box) {
    const into = open.messages.get(message);
    if (!into) return;
    box = el("details", "tool");
    box.append(el("summary"), el("pre", "input"), el("pre", "output"));
    box.querySelectorAll("pre").forEach((pre) => (pre.hidden = true));
    open.parts.set(part, box);
    into.append(box);
  }
  box.dataset.name = title ?? name ?? box.dataset.name ?? "tool";
  box.querySelector("summary").replaceChildren(el("span", "state", status), box.dataset.name);
  for (const [place, payload] of [["input", input], ["output", output]]) {
    if (!payload) continue;
    const pre = box.querySelector(`.${place}`);
    pre.textContent = payloadText(payload);
    pre.hidden = false;
  }
}

function payloadText(payload) {
  if (payload.blob) return `${payload.blob.bytes} bytes, kept as ${payload.blob.id}`;
  return typeof payload.json === "string" ? payload.json : JSON.stringify(payload.json, null, 2);
}

function file(message, part) {
  if (open.parts.has(part.id)) return;
  const link = el("a", "", `${part.name ?? part.media_type} (${part.blob.bytes} bytes)`);
  link.href = `/api/blobs/${part.blob.id}`;
  link.download = part.name ?? "file";
  open.parts.set(part.id, link);
  open.messages.get(message)?.append(link);
}

// The line under an answer: who, how it stands, and what can be done about it.
function line(turn) {
  let bar = open.lines.get(turn.id);
  if (!bar) {
    bar = el("div");
    open.lines.set(turn.id, bar);
  }
  const last = [...$("messages").querySelectorAll(".message")].filter((box) => box.dataset.turn === turn.id).at(-1);
  if (last) last.after(bar);
  else if (!bar.isConnected && isOpen(turn)) $("messages").append(bar);
  const bad = !isOpen(turn) && turn.state !== "completed";
  bar.className = `turn ${isOpen(turn) ? "open" : ""} ${turn.state === "waiting" ? "waiting" : ""} ${bad ? "bad" : ""}`;
  const who = [turn.agent, turn.model].filter(Boolean).join(" · ");
  const state = turn.cancelling && isOpen(turn) ? "stopping" : turn.state === "completed" ? "" : turn.state.replace("_", " ");
  const why = bad ? turn.error?.message ?? "" : "";
  bar.replaceChildren(el("span", "", [who, state, why].filter(Boolean).join(" · ")));
  if (bad && !turn.superseded_by && !turn.reverted) {
    const retry = el("button", "", "Retry");
    retry.type = "button";
    retry.addEventListener("click", () => act(retry, "POST", `/api/turns/${turn.id}/retry`, {}));
    bar.append(retry);
  }
}

async function older() {
  const shown = open;
  const query = shown.before ? `before=${encodeURIComponent(shown.before)}&limit=200` : "last=400";
  const page = await call("GET", `/api/sessions/${shown.id}/messages?${query}`);
  if (shown !== open) return;
  const first = $("messages").firstElementChild;
  for (const message of page.items) addMessage(message, first);
  shown.before = page.next_cursor;
  $("older").hidden = !page.has_more;
}

// ---- questions

async function questions(shown) {
  const page = await call("GET", `/api/questions?session=${shown.id}`).catch(complain);
  if (shown !== open || !page) return;
  $("questions").replaceChildren(...page.items.map(question));
  toEnd();
}

function question(asked) {
  const box = el("article", "question");
  const options = el("div");
  for (const option of asked.options) {
    const button = el("button", option.kind.startsWith("allow") ? "primary" : "", option.label);
    button.type = "button";
    button.addEventListener("click", () => act(button, "POST", `/api/questions/${asked.id}/answer`, { option: option.id }));
    options.append(button);
  }
  box.append(el("h3", "", asked.title), el("pre", "", payloadText(asked.call)), options);
  return box;
}

async function act(button, method, path, body) {
  button.disabled = true;
  try {
    calm();
    await call(method, path, body, freshKey());
  } catch (error) {
    button.disabled = false;
    complain(error);
  }
}

// ---- writing

// The same key goes out again when the network failed, so that a message is sent once.
let sending = null;

async function send() {
  const text = $("input").value;
  if (!text.trim() || $("send").disabled) return;
  if (sending?.text !== text || sending?.session !== (open?.id ?? null)) sending = { text, session: open?.id ?? null, key: freshKey() };
  $("send").disabled = true;
  calm();
  try {
    let id = open?.id;
    if (!id) {
      const agent = $("agent").value || undefined;
      const session = await call("POST", "/api/sessions", { agent, title: title(text) }, `${sending.key}-session`);
      id = session.id;
    }
    await call("POST", `/api/sessions/${id}/turns`, { input: text }, sending.key);
    sending = null;
    $("input").value = "";
    grow();
    if (open?.id !== id) go(id);
    refreshList();
  } catch (error) {
    complain(error);
  }
  $("send").disabled = false;
  $("input").focus();
}

function title(text) {
  const line = text.trim().split("\n")[0].replace(/\p{Cc}/gu, " ");
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}

function grow() {
  $("input").style.height = "auto";
  $("input").style.height = `${$("input").scrollHeight + 2}px`;
}

const isAtEnd = () => $("transcript").scrollHeight - $("transcript").scrollTop - $("transcript").clientHeight < 80;

function toEnd() {
  $("transcript").scrollTop = $("transcript").scrollHeight;
}

// ---- wiring

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("input").addEventListener("input", grow);
$("input").addEventListener("keydown", (event) => {
  const touch = matchMedia("(pointer: coarse)").matches;
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || touch) return;
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", async () => {
  calm();
  const running = [...open.turns.values()].filter(isOpen);
  for (const turn of running) await call("POST", `/api/turns/${turn.id}/cancel`, {}).catch(complain);
});
$("new").addEventListener("click", () => {
  go(null);
  document.body.classList.add("open");
  $("input").focus();
});
$("back").addEventListener("click", () => document.body.classList.remove("open"));
$("more").addEventListener("click", () => loadList(true).catch(complain));
$("older").addEventListener("click", () => older().catch(complain));
$("rename").addEventListener("click", async () => {
  const name = prompt("Title", open.session.title ?? "");
  if (name === null) return;
  await call("PATCH", `/api/sessions/${open.id}`, { title: name || null }).catch(complain);
});
$("remove").addEventListener("click", async () => {
  if (!confirm("Send this session to the trash?")) return;
  try {
    await call("DELETE", `/api/sessions/${open.id}`);
    go(null);
    refreshList();
  } catch (error) {
    complain(error);
  }
});
$("search").addEventListener("input", () => {
  listed.search = $("search").value.trim();
  refreshList();
});
addEventListener("popstate", () => show(new URLSearchParams(location.search).get("session")));

async function begin() {
  const agents = await call("GET", "/api/agents");
  for (const agent of agents.items) {
    const option = el("option", "", agent.name);
    option.value = agent.name;
    option.selected = agent.default;
    $("agent").append(option);
  }
  await loadList(false);
  const feed = new EventSource("/api/feed");
  feed.onmessage = refreshList;
  feed.addEventListener("missed", refreshList);
}

show(new URLSearchParams(location.search).get("session"));
begin().catch(complain);
