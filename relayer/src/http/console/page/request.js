// The third view: everything about one request, as it happens.

import { follow } from "./api.js";
import { clock, count, ether, h, kind, mark, span, took } from "./dom.js";
import { bar, legend, stageMark } from "./requests.js";

const PARTY = {
  answered: "good",
  asked: "run",
  "not-yet": "warn",
  refused: "bad",
  "epoch-not-live": "warn",
  unreachable: "bad",
  invalid: "bad",
};
const TRANSACTION = { confirmed: "good", mined: "run", pending: "run", reverted: "bad", lost: "bad", replaced: "idle" };
const CALLBACK = { delivered: "good", failed: "bad" };

/** The view. */
export function request(world, id, draw, refuse) {
  const stop = new AbortController();
  const seen = { request: null, problem: null };
  const heard = (_, data) => {
    Object.assign(seen, { request: data, problem: null });
    draw();
  };
  const changed = (state, error) => {
    if (state === "refused" && !refuse(error)) seen.problem = error.message;
    draw();
  };
  void follow(`../requests/${encodeURIComponent(id)}/events`, stop.signal, heard, changed);
  return { title: "Request", draw: () => page(id, seen, world.now()), close: () => stop.abort() };
}

function page(id, { request, problem }, now) {
  const copy = (event) => {
    const button = event.currentTarget;
    navigator.clipboard?.writeText(id).then(
      () => (button.textContent = "Copied"),
      () => (button.textContent = "Not copied"),
    );
  };
  return [
    h("p", {}, h("a", { href: "#/requests" }, "← Requests")),
    h(
      "section",
      { class: "card" },
      h("div", { class: "title wrap" }, h("h1", {}, "Request ", request && stageMark(request.stage)), h("button", { type: "button", class: "quiet", onclick: copy }, "Copy the id")),
      h("p", { class: "long" }, h("code", {}, id)),
      problem && h("p", { class: "problem", role: "alert" }, problem),
      !request ? !problem && h("p", { class: "muted" }, "Reading…") : [request.waitingFor && h("p", {}, `Waiting: ${request.waitingFor}`), facts(request, now)],
    ),
    request && [
      h(
        "section",
        { class: "card" },
        h("div", { class: "title wrap" }, h("h2", {}, "Way so far"), legend()),
        bar(request, now),
        h("ol", { class: "timeline" }, request.timeline.map((entry, place) => step(entry, request.timeline[place - 1], now))),
      ),
      h("div", { class: "columns" }, parties(request, now), result(request)),
    ],
  ];
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));

function facts({ kind: of, chainId, fee, deadline, callback, mpcMs }, now) {
  const left = deadline * 1000 - now;
  return h(
    "dl",
    { class: "facts" },
    fact("Kind", kind(of)),
    fact("Chain", String(chainId)),
    of === "on-chain" && fact("Fee", ether(fee)),
    fact("Deadline", clock(deadline * 1000, now), left > 0 && h("span", { class: "muted" }, ` in ${span(left)}`)),
    mpcMs !== null && fact("Parties took", `${mpcMs.toFixed(0)} ms`),
    callback && fact("Callback", mark(CALLBACK[callback] ?? "idle", callback)),
  );
}

function step({ stage, at, detail }, before, now) {
  return h(
    "li",
    {},
    h("span", { class: "stage" }, stage),
    h("span", { class: "muted small figures" }, clock(at, now), before && ` +${took(at - before.at)}`),
    detail && h("span", { class: "small detail" }, detail),
  );
}

function parties({ parties: all }, now) {
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Parties"),
    all.length === 0
      ? h("p", { class: "muted" }, "None has been asked yet.")
      : h(
          "ul",
          { class: "rows" },
          all.map(({ index, status, at, detail }) =>
            h("li", {}, h("span", { class: "name" }, `Party ${index}`), mark(PARTY[status] ?? "idle", status), h("span", { class: "muted small figures" }, clock(at, now)), detail && h("span", { class: "small detail" }, detail)),
          ),
        ),
  );
}

function result({ transactions, cleartexts, signers, kind: of }) {
  return h(
    "section",
    { class: "card" },
    of === "on-chain" && [
      h("h2", {}, "Transactions"),
      transactions.length === 0
        ? h("p", { class: "muted" }, "None has been signed yet.")
        : h(
            "ul",
            { class: "rows" },
            transactions.map(({ hash, state, gasUsed }) =>
              h("li", {}, h("span", { class: "long name" }, h("code", {}, hash)), mark(TRANSACTION[state] ?? "idle", state), h("span", { class: "muted small figures" }, gasUsed === null ? "" : `${count(gasUsed)} gas`)),
            ),
          ),
    ],
    h("h2", {}, "Result"),
    of === "user-decrypt"
      ? h("p", { class: "muted" }, "Sealed shares, which only the user can open.")
      : cleartexts === null
        ? h("p", { class: "muted" }, "Not known yet.")
        : [h("p", { class: "long" }, h("code", {}, cleartexts)), h("p", { class: "small muted" }, `Signed by ${signers.length}: `, signers.map((signer) => h("code", { class: "signer" }, signer)))],
  );
}
