// The server's API, as the pages use it.
// Never a write without its key: what is sent again after a lost answer is done once.

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server said ${status}`);
    this.status = status;
    this.code = error?.code;
    this.field = error?.field;
    this.retryable = error?.retryable === true;
  }
}

class Unreachable extends Error {
  constructor() {
    super("the server does not answer");
  }
}

export const freshKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

async function ask(method, path, body, key) {
  const headers = { "x-everkept": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key) headers["idempotency-key"] = key;
  const sent = fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  // The answer is whole or it is none: what breaks off in it is asked for again.
  const [response, text] = await sent.then(async (response) => [response, await response.text()]).catch(() => {
    throw new Unreachable();
  });
  if (response.ok) return text ? JSON.parse(text) : null;
  if (response.status === 401) dispatchEvent(new CustomEvent("signed-out"));
  let error = null;
  try {
    error = JSON.parse(text).error;
  } catch {
    // A proxy's page, perhaps: the status has to do.
  }
  throw new Refused(response.status, error);
}

export const get = (path, query) => ask("GET", query ? `${path}?${query instanceof URLSearchParams ? query : given(query)}` : path);

/** A query of what is there: absent and empty values are left out. */
export function given(values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== null && value !== "") query.set(name, value);
  return query;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Writes, and goes on trying under the same key while the server does not answer.
 * `patience` is how long, in milliseconds; `waiting` is told before each new try.
 */
export async function write(method, path, body = {}, { key = freshKey(), patience = 20_000, waiting } = {}) {
  const until = performance.now() + patience;
  for (let wait = 300; ; wait = Math.min(wait * 2, 4000)) {
    try {
      return await ask(method, path, body, key);
    } catch (error) {
      const gone = error instanceof Unreachable || error.retryable || [502, 503, 504].includes(error.status);
      if (!gone || performance.now() + wait > until) throw error;
      waiting?.();
      await pause(wait);
    }
  }
}

export const session = (id) => `/api/sessions/${encodeURIComponent(id)}`;
export const turn = (id) => `/api/turns/${encodeURIComponent(id)}`;
