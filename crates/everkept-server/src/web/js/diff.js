// What an edit changes, line by line.
// Never more than a page can show: very long texts are given as they are.

import { html, nothing } from "../vendor/lit-html.js";
import { oneLine, plainly } from "./format.js";

const MOST_LINES = 2000;
const AROUND = 3;

/** The lines of both, as {sign, text}: the shortest way from one to the other. */
function compare(before, after) {
  const a = before === "" ? [] : before.split("\n");
  const b = after === "" ? [] : after.split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const from = a.slice(head, a.length - tail);
  const to = b.slice(head, b.length - tail);
  const same = (text) => ({ sign: " ", text });
  return [...a.slice(0, head).map(same), ...middle(from, to), ...a.slice(a.length - tail).map(same)];
}

function middle(a, b) {
  if (a.length * b.length > 1_000_000) return [...a.map((text) => ({ sign: "-", text })), ...b.map((text) => ({ sign: "+", text }))];
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      longest[at] = a[i] === b[j] ? longest[at + width + 1] + 1 : Math.max(longest[at + width], longest[at + 1]);
    }
  }
  const lines = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ sign: " ", text: a[i] });
      i++;
      j++;
    } else if (j === b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) lines.push({ sign: "-", text: a[i++] });
    else lines.push({ sign: "+", text: b[j++] });
  }
  return lines;
}

/** Only what is near a change. */
function near(lines) {
  const keep = new Uint8Array(lines.length);
  lines.forEach(({ sign }, at) => {
    if (sign !== " ") keep.fill(1, Math.max(0, at - AROUND), at + AROUND + 1);
  });
  const shown = [];
  lines.forEach((line, at) => {
    if (keep[at]) shown.push(line);
    else if (shown.at(-1)?.sign !== "…") shown.push({ sign: "…", text: "" });
  });
  return shown;
}

const KIND = { "+": "added", "-": "removed", "…": "cut" };

const show = (path, lines) => html`<figure class="code diff">
  <figcaption><span><bdi>${oneLine(path)}</bdi></span></figcaption>
  <pre tabindex="0">${lines.slice(0, MOST_LINES).map(({ sign, text }) => html`<span class=${KIND[sign] ?? "same"}>${sign} ${plainly(text)}</span>`)}${lines.length > MOST_LINES ? html`<span class="cut">… ${lines.length - MOST_LINES} more lines</span>` : nothing}</pre>
</figure>`;

const isText = (value) => typeof value === "string";

/** The edits that a tool's input or output tells of, in the ways agents tell of them; empty for any other data. */
export function edits(data) {
  if (data === null || typeof data !== "object") return [];
  if (Array.isArray(data)) return data.flatMap(edits);
  const path = [data.file_path, data.path, data.filePath].find(isText) ?? "";
  const pairs = [
    [data.old_string, data.new_string],
    [data.oldString, data.newString],
    [data.oldText ?? (isText(data.newText) ? "" : undefined), data.newText],
  ];
  const pair = pairs.find(([before, after]) => isText(before) && isText(after));
  if (pair) return [show(path, near(compare(...pair)))];
  const unified = [data.unified_diff, data.diff, data.patch].find(isText);
  if (unified) {
    return [show(path, unified.split("\n").map(unifiedLine))];
  }
  return [...(Array.isArray(data.edits) ? data.edits.map((edit) => ({ path, ...edit })) : []), ...(Array.isArray(data.content) ? data.content : []), ...changesOf(data.changes)].flatMap(edits);
}

function unifiedLine(line) {
  const marked = ["+", "-", " "].includes(line[0]);
  return { sign: marked ? line[0] : " ", text: marked ? line.slice(1) : line };
}

/** Codex names its changes by path, or lists them. */
function changesOf(changes) {
  if (Array.isArray(changes)) return changes;
  if (changes === null || typeof changes !== "object") return [];
  return Object.entries(changes).map(([path, change]) => ({ path, ...change }));
}
