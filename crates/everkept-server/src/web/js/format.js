// Times, amounts and names, as people read them.
// Never a guess: what is not known is an empty text.

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** A text with every sign that shows nothing, or turns others round, written out. */
export const plainly = (text) => text.replace(HIDDEN, (sign) => `⟨U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

/** One line, for a title. */
export const oneLine = (text) => plainly(text.replace(/\s+/g, " ").trim());

export const nameOf = (session) => oneLine(session.title ?? session.thread ?? "") || "Untitled";

export function when(at) {
  if (!at) return "";
  const date = new Date(at);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const year = date.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return date.toLocaleDateString([], { day: "numeric", month: "short", year });
}

export const exactly = (at) => (at ? new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" }) : "");

export function lasting(from, to) {
  if (!from) return "";
  const ms = (to ? new Date(to) : new Date()) - new Date(from);
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
}

export const tokensOf = (usage) => {
  const kinds = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"];
  const known = kinds.filter((kind) => usage?.[kind] !== undefined);
  return known.length ? known.reduce((sum, kind) => sum + usage[kind], 0) : null;
};

export function count(number) {
  if (number === null || number === undefined) return "";
  if (number < 10_000) return number.toLocaleString();
  if (number < 1_000_000) return `${(number / 1000).toFixed(number < 100_000 ? 1 : 0)}k`;
  return `${(number / 1_000_000).toFixed(1)}M`;
}

export function money(micros) {
  if (micros === null || micros === undefined) return "";
  const dollars = micros / 1e6;
  return `$${dollars.toFixed(dollars !== 0 && dollars < 1 ? 4 : 2)}`;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

export const words = (name) => name.replaceAll("_", " ");

/** What a turn or a session cost, in a few words. */
export function spent(usage) {
  const tokens = tokensOf(usage);
  return [tokens === null ? "" : `${count(tokens)} tokens`, money(usage?.cost_usd_micros)].filter(Boolean).join(" · ");
}
