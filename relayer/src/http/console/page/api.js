// The relayer's API: answers, and events that go on. Talks to where the page comes from and to nothing else.

const KEY = "operator-key";
const WAITS = [500, 1000, 2000, 5000, 10_000];

/** An answer that is none. */
export class Refused extends Error {
  constructor(status, label, message) {
    super(message);
    this.status = status;
    this.label = label;
  }
}

/** The operator's key, kept until the tab is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

async function ask(path, signal) {
  const headers = key.get() ? { authorization: `Bearer ${key.get()}` } : {};
  const response = await fetch(path, { headers, signal, cache: "no-store" });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Refused(response.status, error?.label ?? "", error?.message ?? `the relayer answered ${response.status}`);
}

/** Reads JSON. */
export async function read(path, signal) {
  return (await ask(path, signal)).json();
}

/** Whether trying again is of no use before somebody does something. */
const isFinal = (error) => error instanceof Refused && [400, 401, 403, 404].includes(error.status);

/**
 * Follows events until the signal says stop. `heard` gets name and data of each, `changed` gets `live`, `lost`, and `refused`
 * with an error. `EventSource` can't send a key.
 */
export async function follow(path, signal, heard, changed) {
  for (let failures = 0; !signal.aborted; ) {
    try {
      const response = await ask(path, signal);
      // Ended for good.
      if (response.status === 204) return;
      changed("live");
      failures = 0;
      let ended = false;
      await events(response.body, (name, data) => {
        ended ||= name === "end";
        heard(name, JSON.parse(data));
      });
      if (ended) return;
    } catch (error) {
      if (signal.aborted) return;
      if (isFinal(error)) return changed("refused", error);
    }
    if (signal.aborted) return;
    changed("lost");
    await pause(WAITS[Math.min(failures++, WAITS.length - 1)], signal);
  }
}

/** Splits a stream into events. */
async function events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, name, data] = ["", "message", []];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, field, text] = /^([^:]*):? ?(.*)$/.exec(line.replace(/\r$/, ""));
      if (field === "event") name = text;
      else if (field === "data") data.push(text);
      else if (line.trim() === "") {
        if (data.length) heard(name, data.join("\n"));
        [name, data] = ["message", []];
      }
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
