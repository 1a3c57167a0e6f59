// What an agent wrote, as a page shows it: Markdown while it comes, and nothing else.
// Never a string made into markup. Every element here is one of this file's, every text is a text, a link leads only
// where links may, and nothing is loaded from anywhere.

import * as smd from "../vendor/streaming-markdown.js";
import { highlight } from "./highlight.js";

const TAGS = {
  [smd.PARAGRAPH]: "p",
  [smd.HEADING_1]: "h3",
  [smd.HEADING_2]: "h4",
  [smd.HEADING_3]: "h5",
  [smd.HEADING_4]: "h6",
  [smd.HEADING_5]: "h6",
  [smd.HEADING_6]: "h6",
  [smd.CODE_INLINE]: "code",
  [smd.ITALIC_AST]: "em",
  [smd.ITALIC_UND]: "em",
  [smd.STRONG_AST]: "strong",
  [smd.STRONG_UND]: "strong",
  [smd.STRIKE]: "s",
  [smd.BLOCKQUOTE]: "blockquote",
  [smd.LINE_BREAK]: "br",
  [smd.RULE]: "hr",
  [smd.LIST_UNORDERED]: "ul",
  [smd.LIST_ORDERED]: "ol",
  [smd.LIST_ITEM]: "li",
  [smd.TABLE_ROW]: "tr",
  [smd.TABLE_CELL]: "td",
  [smd.EQUATION_BLOCK]: "code",
  [smd.EQUATION_INLINE]: "code",
};

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** Where a link may lead, or null. A path of this server is not something a text may point at. */
function safeLink(text) {
  try {
    const url = new URL(text);
    return SCHEMES.has(url.protocol) && url.origin !== location.origin ? url.href : null;
  } catch {
    return null;
  }
}

function made(token) {
  if (token === smd.LINK || token === smd.RAW_URL || token === smd.IMAGE) {
    const link = document.createElement("a");
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
    if (token === smd.IMAGE) link.className = "image";
    return link;
  }
  if (token === smd.CHECKBOX) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.disabled = true;
    box.setAttribute("aria-label", "task");
    return box;
  }
  if (token === smd.TABLE) {
    const scroll = document.createElement("div");
    scroll.className = "table";
    scroll.tabIndex = 0;
    scroll.append(document.createElement("table"));
    return scroll;
  }
  if (token === smd.CODE_FENCE || token === smd.CODE_BLOCK) return codeBlock();
  const element = document.createElement(TAGS[token] ?? "span");
  if (["p", "li", "h3", "h4", "h5", "h6", "blockquote"].includes(element.localName)) element.dir = "auto";
  return element;
}

function codeBlock() {
  const box = document.createElement("figure");
  box.className = "code";
  const bar = document.createElement("figcaption");
  const language = document.createElement("span");
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "Copy";
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  const code = document.createElement("code");
  copy.addEventListener("click", async () => {
    const copied = await (navigator.clipboard?.writeText(code.textContent) ?? Promise.reject()).then(() => true, () => false);
    copy.textContent = copied ? "Copied" : "Not allowed";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  bar.append(language, copy);
  pre.append(code);
  box.append(bar, pre);
  return box;
}

const isCode = (node) => node.localName === "figure";
/** Where the children and texts of an element go. */
const inner = (node) => (isCode(node) ? node.querySelector("code") : node.className === "table" ? node.firstChild : node);

const renderer = (root) => ({
  data: { nodes: [root], tables: 0 },
  add_token(data, token) {
    const node = made(token);
    inner(data.nodes.at(-1)).append(node);
    data.nodes.push(node);
  },
  end_token(data) {
    if (data.nodes.length === 1) return;
    const node = data.nodes.pop();
    if (isCode(node)) highlight(inner(node), node.dataset.language);
  },
  add_text(data, text) {
    inner(data.nodes.at(-1)).append(text);
  },
  set_attr(data, kind, value) {
    const node = data.nodes.at(-1);
    if (kind === smd.LANG && isCode(node)) {
      node.dataset.language = value.split(/\s/)[0];
      node.querySelector("span").textContent = node.dataset.language;
    } else if ((kind === smd.HREF || kind === smd.SRC) && node.localName === "a") {
      const address = safeLink(value);
      if (!address) return;
      node.href = address;
      // What a link says it is and where it leads may differ: it tells.
      node.title = address;
    } else if (kind === smd.CHECKED && node.localName === "input") node.checked = true;
    else if (kind === smd.START && node.localName === "ol") node.start = Number.parseInt(value, 10) || 1;
  },
});

/** A text that grows. */
export class MarkdownText {
  constructor(text = "") {
    this.element = document.createElement("div");
    this.element.className = "text";
    this.begin(text);
  }

  begin(text) {
    this.source = "";
    this.plain = false;
    this.ended = false;
    this.element.replaceChildren();
    this.parser = smd.parser(renderer(this.element));
    this.grow(text);
  }

  /** Everything there is by now: only what is new is shown, unless it is another text. */
  set(text) {
    if (text.startsWith(this.source)) this.grow(text.slice(this.source.length));
    else this.begin(text);
  }

  grow(text) {
    if (!text) return;
    if (this.ended) return this.begin(this.source + text);
    this.source += text;
    if (this.plain) return this.element.append(text);
    try {
      smd.parser_write(this.parser, text);
    } catch {
      this.asItIs();
    }
  }

  /** The parser keeps back what may become a mark; at the end it has to say. */
  end() {
    if (this.plain || this.ended) return;
    this.ended = true;
    try {
      smd.parser_end(this.parser);
    } catch {
      this.asItIs();
    }
  }

  /** Nothing is lost to a parser that cannot take it. */
  asItIs() {
    this.plain = true;
    this.element.classList.add("plain");
    this.element.replaceChildren(this.source);
  }
}
