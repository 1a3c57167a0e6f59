// Which agent and which model answer: looked at first, locked with one click.
// Never a lock that is shown before the server has it, and never a write for a look.

import { html, nothing } from "../vendor/lit-html.js";
import { get, session as at, write } from "./api.js";
import { oneLine } from "./format.js";
import { toast } from "./toast.js";

let known = null;

/** The configured agents, read once for a page's life and again when asked. */
export async function agents(again = false) {
  if (!known || again) known = get("/api/agents").then((page) => page.items);
  return known.catch((error) => {
    known = null;
    throw error;
  });
}

const named = (agent, model) => [agent, model].filter(Boolean).map(oneLine).join(" / ");

export class Picker {
  /** `changed` is called when the picker is to be shown anew, `saved(session)` when the server has a lock. */
  constructor(changed, saved) {
    this.changed = changed;
    this.saved = saved;
    this.list = [];
    this.locked = { agent: null, model: null };
    this.preview = null;
    this.saving = false;
    this.error = null;
    this.open = false;
    this.session = null;
    this.used = new Set();
  }

  async load() {
    this.list = await agents(true);
    this.changed();
  }

  /** The session's own lock, as the server has it; null for one that is yet to be made. */
  follow(session, turns = []) {
    if (session?.id !== this.session) this.preview = null;
    this.session = session?.id ?? null;
    if (session) this.locked = { agent: session.agent, model: session.model };
    for (const turn of turns) if (turn.model) this.used.add(turn.model);
  }

  get standard() {
    return this.list.find((agent) => agent.default)?.name ?? null;
  }

  find(name) {
    return this.list.find((agent) => agent.name === name);
  }

  /** The agent that is locked but is no longer there. */
  get gone() {
    return this.list.length && this.locked.agent && !this.find(this.locked.agent) ? this.locked.agent : null;
  }

  get shown() {
    return this.preview ?? { agent: (this.gone ? null : this.locked.agent) ?? this.standard, model: this.locked.model };
  }

  /** The agent's own model, else the one that is locked where the agent can be told one, else the agent decides. */
  candidate(name) {
    const agent = this.find(name);
    return agent?.model ?? (agent?.abilities.set_model ? this.locked.model : null);
  }

  look(agent, model = this.candidate(agent)) {
    this.preview = { agent, model };
    this.error = null;
    this.changed();
  }

  async lock() {
    if (this.saving) return;
    const wanted = this.preview ?? this.shown;
    if (!this.session) {
      // It goes with the session when that is made.
      this.locked = { ...wanted };
      this.preview = null;
      this.chosen = true;
      this.open = false;
      return this.changed();
    }
    this.saving = true;
    this.error = null;
    this.changed();
    try {
      const session = await write("PATCH", at(this.session), { agent: wanted.agent, model: wanted.model || null });
      this.saved(session);
      this.preview = null;
      this.open = false;
      toast(`Locked: ${named(session.agent, session.model)}`);
    } catch (error) {
      this.error = error.message;
    }
    this.saving = false;
    this.changed();
  }

  /** What the composer says about it. */
  label(busy) {
    if (!this.locked.agent && !this.locked.model) return named(this.standard, null) || "agent";
    const lock = named(this.locked.agent ?? this.standard, this.locked.model);
    if (!this.session) return lock;
    return busy ? `Locked for next turn: ${lock}` : `Locked: ${lock}`;
  }

  button(busy) {
    return html`<button type="button" class="picker" id="picker" aria-haspopup="dialog" aria-expanded=${this.open}
      @click=${() => ((this.open = !this.open), (this.preview = this.open ? this.preview : null), this.changed())}>
      ${this.gone ? html`<span class="warn" title="not configured">!</span>` : nothing}<bdi>${this.label(busy)}</bdi></button>`;
  }

  panel() {
    if (!this.open) return nothing;
    const { agent: current, model } = this.shown;
    const able = this.find(current)?.abilities.set_model;
    return html`<div class="panel" id="picker-panel" role="dialog" aria-label="Agent and model" @keydown=${(event) => this.key(event)}>
      ${this.gone ? html`<p class="warning">The locked agent <bdi>${oneLine(this.gone)}</bdi> is not configured any more: ${this.standard} stands in.</p>` : nothing}
      <fieldset>
        <legend>Agent</legend>
        ${this.list.map(
          (agent) => html`<label class=${agent.name === current ? "choice" : "choice dim"}>
            <input type="radio" name="agent" .value=${agent.name} .checked=${agent.name === current} @change=${() => this.look(agent.name)}>
            <bdi>${agent.name}</bdi>
            <small>${[agent.model, agent.default ? "default" : "", agent.remote ? (agent.connected ? "remote" : "remote, not connected") : ""].filter(Boolean).join(" · ")}</small>
          </label>`,
        )}
      </fieldset>
      <label class="field">Model
        <input list="models" .value=${model ?? ""} ?disabled=${!able} placeholder=${able ? "the agent's own" : "this agent cannot be told"} maxlength="200" autocomplete="off"
          @input=${(event) => this.look(current, event.target.value.trim() || null)}></label>
      <datalist id="models">${[...new Set([...this.used, ...this.list.map((agent) => agent.model)])].filter(Boolean).map((name) => html`<option value=${name}></option>`)}</datalist>
      ${this.error ? html`<p class="bad" role="alert">Not locked: ${this.error}</p>` : nothing}
      <div class="options">
        <button type="button" class="primary" ?disabled=${this.saving} @click=${() => this.lock()}>${this.saving ? html`<span class="spin"></span> Locking …` : this.session ? "Lock" : "Use"}</button>
        <button type="button" @click=${() => this.dismiss()}>Cancel</button>
      </div>
    </div>`;
  }

  dismiss() {
    this.open = false;
    this.preview = null;
    this.error = null;
    this.changed();
    document.getElementById("picker")?.focus();
  }

  key(event) {
    if (event.key === "Escape") this.dismiss();
    else if (event.key === "Enter" && event.target.localName === "input") {
      event.preventDefault();
      this.lock();
    }
  }
}
