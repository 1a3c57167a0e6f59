// A line that says what was done, or why not, and goes by itself.
// Never the only place where a lasting state is told.

import { html, nothing, render } from "../vendor/lit-html.js";

let shown = [];

function draw() {
  render(
    shown.map(
      (note) => html`<div class=${note.bad ? "toast bad" : "toast"}><span>${note.text}</span>${note.undo
        ? html`<button type="button" @click=${() => (drop(note), note.undo())}>Undo</button>`
        : nothing}<button type="button" class="quiet" aria-label="Dismiss" @click=${() => drop(note)}>×</button></div>`,
    ),
    document.getElementById("toasts"),
  );
}

function drop(note) {
  shown = shown.filter((other) => other !== note);
  draw();
}

export function toast(text, { bad = false, undo = null, ms = bad || undo ? 9000 : 3500 } = {}) {
  const note = { text, bad, undo };
  shown = [...shown.slice(-3), note];
  draw();
  setTimeout(() => drop(note), ms);
}

/** Says why something could not be done. */
export const complain = (error) => toast(error.status === 401 ? "You are signed out. Ask the server for a new login link." : error.message, { bad: true });
