// The parts of a message: what was said, what was thought, the tools that were called, files.
// Never a tool's data in other words than the agent's: JSON is laid out, nothing more.

import { html, nothing } from "../vendor/lit-html.js";
import { edits } from "./diff.js";
import { oneLine, plainly, size, words } from "./format.js";
import { MarkdownText } from "./markdown.js";

/** A larger text is shown on demand: its beginning is enough to know what it is. */
const FIRST = 20_000;

const blob = (kept) => html`<a class="blob" href=${`/api/blobs/${encodeURIComponent(kept.id)}`} download="data">${size(kept.bytes)}, kept as a file</a>`;

const laidOut = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

export function data(payload) {
  if (!payload) return nothing;
  if (payload.blob) return blob(payload.blob);
  const text = plainly(laidOut(payload.json));
  if (text.length <= FIRST) return html`<pre tabindex="0">${text}</pre>`;
  return html`<pre tabindex="0">${text.slice(0, FIRST)}</pre>
    <details class="rest"><summary>${size(text.length - FIRST)} more</summary><pre tabindex="0">${text.slice(FIRST)}</pre></details>`;
}

/** What a tool wrote to be read, where its output says so: texts instead of the JSON around them. */
function readable(payload) {
  const value = payload?.json;
  if (typeof value === "string") return value;
  const list = Array.isArray(value) ? value : Array.isArray(value?.content) ? value.content : null;
  const texts = list?.map((item) => item?.text ?? item?.content?.text);
  if (texts?.length && texts.every((text) => typeof text === "string")) return texts.join("\n");
  const said = value?.aggregatedOutput ?? value?.stdout ?? value?.output;
  return typeof said === "string" ? said : null;
}

function tool(part) {
  const changes = [...edits(part.input?.json), ...(part.input?.json ? [] : edits(part.output?.json))];
  const said = readable(part.output);
  const title = oneLine(part.title ?? part.name ?? "tool");
  const status = part.status ?? "pending";
  return html`<details class="tool" data-status=${status}>
    <summary>
      <span class="mark" aria-hidden="true"></span><span class="name"><bdi>${title}</bdi></span>
      ${part.title && part.name && part.name !== part.title ? html`<small><bdi>${oneLine(part.name)}</bdi></small>` : nothing}
      <span class="status">${words(status)}</span>
    </summary>
    ${changes.length ? html`<div class="data">${changes}</div>` : nothing}
    ${part.input ? html`<div class="data"><h4>Input</h4>${data(part.input)}</div>` : nothing}
    ${part.output ? html`<div class="data"><h4>Output</h4>${said === null ? data(part.output) : data({ json: said })}</div>` : nothing}
  </details>`;
}

const file = (part) => html`<a class="file" href=${`/api/blobs/${encodeURIComponent(part.blob.id)}`} download=${oneLine(part.name ?? "file")}>
  <bdi>${oneLine(part.name ?? part.media_type)}</bdi> <small>${size(part.blob.bytes)}</small></a>`;

/** The texts of one conversation that are on the page, by part: they grow in place. */
export class Texts {
  constructor() {
    this.shown = new Map();
  }

  of(part) {
    let text = this.shown.get(part.id);
    if (!text) this.shown.set(part.id, (text = new MarkdownText()));
    text.set(part.text);
    return text;
  }

  /** True when the text is on the page and has grown there. */
  grow(part, text) {
    const shown = this.shown.get(part);
    shown?.grow(text);
    return Boolean(shown);
  }

  forget() {
    this.shown.clear();
  }
}

export function shownPart(part, { role, texts, live }) {
  switch (part.type) {
    case "text": {
      if (part.text === "") return nothing;
      if (role === "user") return html`<div class="text plain" dir="auto">${part.text}</div>`;
      const text = texts.of(part);
      if (!live) text.end();
      return text.element;
    }
    case "reasoning": {
      const text = texts.of(part);
      if (!live) text.end();
      return html`<details class="reasoning"><summary>${live ? "Thinking …" : "Thoughts"}</summary>${text.element}</details>`;
    }
    case "tool":
      return tool(part);
    case "file":
      return file(part);
    default:
      return html`<p class="soft">a part of the kind “${words(part.type)}”, which this page does not know</p>`;
  }
}

/** The words of a message, as they were said. */
export const source = (message) => [...message.parts.values()].filter((part) => part.type === "text").map((part) => part.text).join("");
