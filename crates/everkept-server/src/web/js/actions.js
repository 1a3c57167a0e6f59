// What can be done with a session from more than one page.
// Never a delete that cannot be taken back.

import { html } from "../vendor/lit-html.js";
import { session as at, write } from "./api.js";
import { nameOf } from "./format.js";
import { complain, toast } from "./toast.js";

/** A button that opens a list of things to do: [label, act]. */
export function menu(items) {
  const close = (event) => event.currentTarget.closest("details").removeAttribute("open");
  return html`<details class="menu" @keydown=${escape} @focusout=${left}>
    <summary aria-label="More" role="button">⋯</summary>
    <div role="menu">${items.map(([label, act]) => html`<button type="button" role="menuitem" @click=${(event) => (close(event), act())}>${label}</button>`)}</div>
  </details>`;
}

function escape(event) {
  if (event.key !== "Escape") return;
  event.currentTarget.removeAttribute("open");
  event.currentTarget.querySelector("summary").focus();
}

function left(event) {
  if (event.relatedTarget && !event.currentTarget.contains(event.relatedTarget)) event.currentTarget.removeAttribute("open");
}

export async function rename(session) {
  const title = await ask("Title of this session", session.title ?? "");
  if (title !== null) await write("PATCH", at(session.id), { title: title.trim() || null }).catch(complain);
}

/** To the trash, with a way back. */
export async function trash(session, after = () => {}) {
  try {
    await write("DELETE", at(session.id));
  } catch (error) {
    return complain(error);
  }
  toast(`“${nameOf(session)}” is in the trash.`, { undo: () => restore(session) });
  after();
}

export async function restore(session) {
  const back = await write("POST", `${at(session.id)}/restore`).catch(complain);
  if (back) toast(`“${nameOf(session)}” is back.`);
}

/** Asks for one line, in a dialog of the page's own; null when it is dismissed. */
export function ask(label, value) {
  const dialog = document.getElementById("ask");
  const form = dialog.querySelector("form");
  dialog.querySelector("label span").textContent = label;
  const input = dialog.querySelector("input");
  input.value = value;
  dialog.returnValue = "";
  dialog.showModal();
  input.select();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      dialog.close("yes");
    };
    dialog.querySelector("button[type=button]").onclick = () => dialog.close("");
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? input.value : null);
  });
}
