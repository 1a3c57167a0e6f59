// A message on the page, and the line under a turn: who answered, how it went, what can be done about it.
// Never an action that the turn's state would refuse.

import { html, nothing } from "../vendor/lit-html.js";
import { exactly, lasting, oneLine, spent, when, words } from "./format.js";
import { isOpen, putOff } from "./conversation.js";
import { shownPart, source } from "./parts.js";
import { toast } from "./toast.js";

const copy = (text) => (navigator.clipboard?.writeText(text) ?? Promise.reject()).then(() => toast("Copied."), () => toast("The browser did not let it be copied.", { bad: true }));

const copyButton = (message) => html`<button type="button" class="quiet" data-act="copy" @click=${() => copy(source(message))}>Copy</button>`;

function rewriting(message, chat) {
  return html`<div class="rewrite">
    <textarea rows="3" aria-label="Edited message" .value=${chat.rewriting.text} @input=${(event) => (chat.rewriting.text = event.target.value)}></textarea>
    <div class="options">
      <button type="button" class="primary" @click=${() => chat.act.resend(message)}>Send in a fork</button>
      <button type="button" @click=${() => ((chat.rewriting = { id: null, text: "" }), chat.soon())}>Cancel</button>
    </div>
    <p class="soft">What was said stays as it is: the edited message goes on in a session of its own.</p>
  </div>`;
}

function userActions(message, turn, chat) {
  if (!turn || isOpen(turn)) return nothing;
  // Words alone would go on in the place of words and files.
  const whole = [...message.parts.values()].every((part) => part.type === "text");
  return html`<div class="actions">
    ${copyButton(message)}
    ${whole ? html`<button type="button" class="quiet" data-act="edit" @click=${() => chat.act.rewrite(message, source(message))}>Edit</button>` : nothing}
    <button type="button" class="quiet" data-act="revert" @click=${() => chat.act.revert(turn)}>Take back</button>
  </div>`;
}

export function shownMessage(message, { chat, turn, live, texts, last }) {
  const parts = [...message.parts.values()];
  const usage = message.usage ? spent(message.usage) : "";
  const textual = parts.some((part) => part.type === "text" && part.text);
  return html`<article class=${`message ${message.role}`} data-message=${message.id} data-turn=${message.turn ?? ""} .source=${message} aria-label=${`${message.role}, ${when(message.created_at)}`}>
    ${chat.rewriting.id === message.id ? rewriting(message, chat) : parts.map((part) => shownPart(part, { role: message.role, texts, live }))}
    ${message.role === "user" ? userActions(message, turn, chat) : nothing}
    ${message.role === "assistant" && !live && !last && (textual || usage) ? html`<div class="actions">${copyButton(message)}<small class="soft">${usage}</small></div>` : nothing}
  </article>`;
}

function stateOf(turn) {
  if (turn.cancelling && isOpen(turn)) return "stopping";
  if (putOff(turn)) return ["tried again at", when(putOff(turn)), oneLine(turn.delayed?.error?.message ?? "")].filter(Boolean).join(" ");
  if (turn.state === "completed") return "";
  return words(turn.state);
}

const WHY = { fallback: "stands in for the one that failed", session_agent_gone: "stands in: the locked agent is not configured", last_used: "" };

/** `answer` is the last message of the turn. */
export function turnLine(turn, { act, latest, answer }) {
  const open = isOpen(turn);
  const bad = !open && turn.state !== "completed";
  const who = [turn.agent, turn.model].filter(Boolean).map(oneLine).join(" · ");
  const why = WHY[turn.agent_because] ?? WHY[turn.model_because] ?? "";
  const settled = !open && !turn.superseded_by && !turn.reverted;
  const continuable = bad && settled;
  return html`<div class=${`turn ${open ? "open" : ""} ${turn.state === "waiting" ? "waiting" : ""} ${bad ? "bad" : ""}`} data-turn=${turn.id} data-state=${turn.state}>
    <span class="how" title=${exactly(turn.ended_at ?? turn.started_at)}>${[who, why, stateOf(turn), bad && turn.error ? oneLine(turn.error.message) : "", !open && turn.started_at ? lasting(turn.started_at, turn.ended_at) : "", turn.usage ? spent(turn.usage) : ""].filter(Boolean).join(" · ")}</span>
    ${bad && turn.error?.may_have_happened ? html`<span class="soft">it may have acted</span>` : nothing}
    ${!open && answer.role === "assistant" && source(answer) ? copyButton(answer) : nothing}
    ${continuable ? html`<button type="button" class="quiet" data-act="retry" @click=${() => act.again(turn, "retry")}>Retry</button>` : nothing}
    ${continuable && latest ? html`<button type="button" class="quiet" data-act="continue" @click=${() => act.again(turn, "continue")}>Continue</button>` : nothing}
    ${settled && !bad && turn.request_message ? html`<button type="button" class="quiet" data-act="redo" @click=${() => act.again(turn, "redo")}>Redo</button>` : nothing}
    ${settled ? html`<button type="button" class="quiet" data-act="fork" @click=${() => act.fork(turn)}>Fork from here</button>` : nothing}
  </div>`;
}
