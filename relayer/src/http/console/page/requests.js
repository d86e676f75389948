// The second view: requests, the one that moved last first, each with its way so far.

import { read } from "./api.js";
import { clock, h, kind, mark, s, short, span, took } from "./dom.js";

const FILTERS = [
  ["", "All"],
  ["open", "Open"],
  ["done", "Done"],
  ["failed", "Failed"],
];
const ENDS = ["done", "expired", "cancelled", "refused", "orphaned"];
/** Pause between two reads, however much moves. */
const PAUSE = 1000;
/** Whom a request waits for at a stage. */
const WAITS_FOR = { seen: "chain", final: "parties", dispatched: "parties", quorum: "relayer", submitting: "relayer", mined: "chain" };

/** How a stage looks. */
export function stageMark(stage) {
  return mark(stage === "done" ? "good" : ENDS.includes(stage) ? (stage === "refused" || stage === "expired" ? "bad" : "warn") : "run", stage);
}

/** Where the time went: a bar of parts, as wide as they took long. */
export function bar({ timeline, kind: of }, now) {
  const first = timeline[0]?.at ?? now;
  const last = timeline.at(-1);
  const end = last && ENDS.includes(last.stage) ? last.at : Math.max(now, last?.at ?? now);
  const all = Math.max(1, end - first);
  const parts = timeline.map(({ stage, at }, place) => {
    const until = timeline[place + 1]?.at ?? end;
    // A user has what it needs at quorum: the rest is up to the parties.
    const waits = of === "user-decrypt" && stage === "quorum" ? "parties" : WAITS_FOR[stage];
    return waits && s("rect", { class: waits, x: ((at - first) / all) * 1000, width: (Math.max(0, until - at) / all) * 1000, height: 8 });
  });
  return s("svg", { class: "bar", viewBox: "0 0 1000 8", preserveAspectRatio: "none", "aria-hidden": "true" }, parts);
}

/** What the colours of the bar mean. */
export const legend = () =>
  h("p", { class: "legend small muted" }, "Time spent waiting for ", ["chain", "parties", "relayer"].map((who) => h("span", { class: who }, `the ${who}`)));

/** The view. */
export function requests(world, values, draw, refuse) {
  const stage = values.get("stage") ?? "";
  const search = values.get("search");
  const stop = new AbortController();
  const list = { rows: null, next: null, problem: null };
  let [reading, again, wanted] = [false, false, 50];

  async function page(before) {
    const asked = new URLSearchParams(search === null ? { ...(stage && { stage }), ...(before && { before }) } : { search });
    return read(`api/requests?${asked}`, stop.signal);
  }

  /** Reads as many as are shown. */
  async function load() {
    if (reading) return void (again = true);
    reading = true;
    try {
      const rows = [];
      let next = null;
      do {
        const answer = await page(next);
        rows.push(...answer.requests);
        next = answer.next;
      } while (next && rows.length < wanted);
      Object.assign(list, { rows, next, problem: null });
    } catch (error) {
      if (stop.signal.aborted) return;
      if (!refuse(error)) list.problem = error.message;
    }
    draw();
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    reading = false;
    if (again && !stop.signal.aborted) {
      again = false;
      await load();
    }
  }

  void load();
  return {
    title: "Requests",
    draw: () => content(world, list, stage, search, more),
    // Of another process's moves we may hear late: the way of a request that was searched for is read again, too.
    moved: () => void load(),
    close: () => stop.abort(),
  };

  function more() {
    wanted = (list.rows?.length ?? 0) + 50;
    again = false;
    void load();
  }
}

function content(world, { rows, next, problem }, stage, search, more) {
  const known = FILTERS.some(([name]) => name === stage);
  return [
    h("div", { class: "title wrap" }, h("h1", {}, search === null ? "Requests" : `Requests that begin with ${search}`), legend()),
    search === null &&
      h(
        "ul",
        { class: "tabs", "aria-label": "Which requests" },
        [...FILTERS, ...(known ? [] : [[stage, `At “${stage}”`]])].map(([name, text]) =>
          h("li", {}, h("a", { href: name ? `#/requests?stage=${name}` : "#/requests", "aria-current": name === stage ? "true" : null }, text)),
        ),
      ),
    problem && h("p", { class: "card problem", role: "alert" }, problem),
    rows === null
      ? !problem && h("p", { class: "muted" }, "Reading…")
      : rows.length === 0
        ? h("p", { class: "card muted" }, search === null ? "There are none." : "None that this relayer has seen, or that it still knows.")
        : h("ol", { class: "requests" }, rows.map((row) => one(row, world.now()))),
    next && h("p", { class: "more" }, h("button", { type: "button", onclick: more }, "Show older ones")),
  ];
}

function one(row, now) {
  const { requestId, chainId, kind: of, stage, since, createdAt, waitingFor, reason, timeline } = row;
  const ended = ENDS.includes(stage);
  return h(
    "li",
    { class: "card request", "data-key": requestId },
    h(
      "div",
      { class: "head" },
      h("a", { href: `#/requests/${requestId}`, class: "id" }, h("code", { title: requestId }, short(requestId))),
      stageMark(stage),
      h("span", { class: "muted small" }, `${kind(of)}, chain ${chainId}`),
      h("span", { class: "muted small when" }, ended ? `${clock(since, now)}, took ${took(since - createdAt)}` : `open for ${span(now - createdAt)}`),
    ),
    bar(row, now),
    h(
      "ol",
      { class: "steps small" },
      timeline.map(({ stage, at }, place) => h("li", {}, stage, place > 0 && h("span", { class: "muted" }, ` +${took(at - timeline[place - 1].at)}`))),
    ),
    (waitingFor || reason) && h("p", { class: "small detail" }, reason ?? `Waiting: ${waitingFor}`),
  );
}
