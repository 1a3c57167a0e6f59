// Colours for code, from a library that is loaded when the first code is there.
// Never its markup: its tree of scopes is built here, out of spans and texts.

/** More than this is left plain: it would hold the page up. */
const MOST = 60_000;
let library = null;

async function load() {
  const { default: highlighter } = await import("../vendor/highlight.js");
  highlighter.configure({ throwUnescapedHTML: false });
  return highlighter;
}

function build(node, into) {
  for (const child of node.children) {
    if (typeof child === "string") into.append(child);
    else {
      const span = document.createElement("span");
      // A scope is a name of the library's grammars: `title.function` and the like.
      if (child.scope) span.className = child.scope.split(".").map((word) => `hl-${word}`).join(" ");
      build(child, span);
      into.append(span);
    }
  }
}

export async function highlight(code, language) {
  const text = code.textContent;
  if (!language || text.length > MOST) return;
  library ??= load();
  const highlighter = await library.catch(() => null);
  if (!highlighter?.getLanguage(language) || code.textContent !== text) return;
  const tree = highlighter.highlight(text, { language, ignoreIllegals: true })._emitter?.rootNode;
  if (!tree) return;
  const coloured = document.createDocumentFragment();
  build(tree, coloured);
  if (coloured.textContent === text) code.replaceChildren(coloured);
}
