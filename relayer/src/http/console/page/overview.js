// The first view: what wants attention, the queue, the parties, the chains.

import { count, ether, h, kind, mark, short, span } from "./dom.js";

const WAY = ["seen", "final", "dispatched", "quorum", "submitting", "mined", "done"];
const PARTY = { ready: ["good", "ready"], waiting: ["warn", "not ready"], untold: ["idle", "does not tell"], down: ["bad", "no answer"] };

/** The view. */
export function overview(world) {
  return { title: "Overview", draw: () => (world.overview ? draw(world.overview, world.now()) : h("p", { class: "muted" }, "Looking…")), close() {} };
}

function draw(all, now) {
  return [
    attention(all),
    queue(all, now),
    h("div", { class: "balanced" }, parties(all, now), all.chains.map((chain) => chainCard(all, chain, now))),
    h("p", { class: "muted small foot" }, `Version ${all.version}`, all.sight ? `, looked around ${span(now - all.sight.at)} ago` : ", looking around…"),
  ];
}

function attention({ attention: all, sight }) {
  const bad = all.some(({ level }) => level === "bad");
  const title = all.length === 0 ? (sight ? "All is well" : "Looking around…") : all.length === 1 ? "One thing wants attention" : `${all.length} things want attention`;
  return h(
    "section",
    { class: `card attention ${all.length === 0 ? "well" : bad ? "bad" : "warn"}`, "aria-label": "Attention" },
    h("h1", {}, title),
    all.length > 0 && h("ul", { class: "plain" }, all.map(({ level, text }) => h("li", {}, mark(level, level === "bad" ? "now" : "soon"), " ", text))),
  );
}

function queue({ stages }, now) {
  const cell = ({ stage, count: n, oldest, kinds }) =>
    h(
      "li",
      { class: n > 0 ? "some" : "none" },
      h(
        "a",
        { href: `#/requests?stage=${stage}`, "data-key": stage },
        h("span", { class: "stage" }, stage),
        h("span", { class: "number" }, count(n)),
        h("span", { class: "small muted" }, n > 0 && stage !== "done" && WAY.includes(stage) ? `oldest ${span(now - oldest)}` : ""),
      ),
      n > 0 && h("span", { class: "unseen" }, kinds.map((of) => `${of.count} ${kind(of.kind)}`).join(", ")),
    );
  const way = WAY.map((name) => stages.find(({ stage }) => stage === name)).filter(Boolean);
  const others = stages.filter(({ stage }) => !WAY.includes(stage));
  const open = way.filter(({ stage }) => stage !== "done");
  const kinds = new Map();
  for (const of of open.flatMap(({ kinds }) => kinds)) kinds.set(of.kind, (kinds.get(of.kind) ?? 0) + of.count);
  const under = [...kinds].map(([name, n]) => `${count(n)} ${kind(name)}`).join(", ");
  return h(
    "section",
    { class: "card" },
    h("div", { class: "title" }, h("h2", {}, "Queue"), h("p", { class: "muted small" }, under ? `Open: ${under}` : "Nothing is open")),
    h("ol", { class: "way" }, way.map(cell)),
    h("ul", { class: "way others", "aria-label": "Ended without an answer" }, others.map(cell)),
  );
}

function parties({ committee, sight }, now) {
  const needed = Math.max(committee.signatures, committee.shares);
  const ready = sight?.parties.filter(({ answers }) => answers === "ready" || answers === "untold").length ?? 0;
  const room = ready - needed;
  const headroom =
    room < 0
      ? `${-room} more must come back before anything is decrypted`
      : room === 0
        ? "none more may fail"
        : `${room} more may fail`;
  return h(
    "section",
    { class: "card" },
    h("div", { class: "title" }, h("h2", {}, "Parties"), h("p", { class: "muted small" }, `${needed} of ${committee.parties} are needed`)),
    !sight
      ? h("p", { class: "muted" }, "Being asked…")
      : [
          h("p", { class: "headroom" }, h("span", { class: "number" }, `${ready} of ${sight.parties.length}`), ` ready, ${headroom}`),
          h(
            "div",
            { class: "seats", "aria-hidden": "true" },
            sight.parties.map(({ answers }, place) => h("span", { class: `${PARTY[answers][0]}${place + 1 === needed ? " last" : ""}` })),
          ),
          h("ul", { class: "rows" }, sight.parties.map(party)),
        ],
  );
}

function party({ index, answers, problem, version, cutOffFrom, millis }) {
  const cut = cutOffFrom.length > 0 && `no connection with ${cutOffFrom.join(", ")}`;
  return h(
    "li",
    {},
    h("span", { class: "name" }, `Party ${index}`),
    mark(...PARTY[answers]),
    h("span", { class: "muted small figures" }, millis === null ? "" : `${millis} ms`, version && ` · ${version}`),
    (problem || cut) && h("span", { class: "small detail" }, [problem, cut].filter(Boolean).join("; ")),
  );
}

function chainCard({ sight }, { chainId, cursor, head, finalized, standsBy, problem }, now) {
  const seen = sight?.chains.find((chain) => chain.chainId === chainId);
  const behind = head - cursor;
  return h(
    "section",
    { class: "card" },
    h("div", { class: "title" }, h("h2", {}, `Chain ${chainId}`), problem ? mark("bad", "not followed") : standsBy ? mark("idle", "stands by") : behind > 3 ? mark("warn", `${count(behind)} blocks behind`) : mark("good", "followed")),
    problem && h("p", { class: "problem small" }, problem),
    h("dl", { class: "facts" }, fact("Block", count(cursor)), fact("Finalized", count(finalized))),
    !seen ? h("p", { class: "muted" }, "Being looked at…") : [h("h3", {}, "Endpoints"), h("ul", { class: "rows" }, seen.endpoints.map(endpoint)), h("h3", {}, "Account"), account(seen.account, now)],
  );
}

const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));

function endpoint({ endpoint: name, active, head, problem }) {
  return h(
    "li",
    {},
    h("span", { class: "name" }, name),
    head === null ? mark("bad", "no answer") : problem ? mark("warn", "problem") : active ? mark("good", "in use") : mark("idle", "stands by"),
    h("span", { class: "muted small figures" }, head === null ? "" : `block ${count(head)}`),
    problem && h("span", { class: "small detail" }, problem),
  );
}

function account(account, now) {
  if (!account) return h("p", { class: "muted" }, "The books can’t be read.");
  const { address, balance, low, counted, nextNonce, pending, maxPending, firstPending: first, problem } = account;
  return [
    h("p", { class: "long" }, h("code", {}, address)),
    problem && h("p", { class: "problem small" }, problem),
    h(
      "dl",
      { class: "facts" },
      fact("Balance", balance === null ? "unknown" : ether(balance), low && [" ", mark("bad", "low")]),
      fact("Pending", `${count(pending)} of ${count(maxPending)}`),
      fact("Nonce on chain", counted === null ? "unknown" : count(counted)),
      fact("Next nonce", nextNonce === null ? "none yet" : count(nextNonce)),
    ),
    first &&
      h(
        "p",
        { class: "small" },
        `Nonce ${count(first.nonce)} has been pending for ${span(now - first.since)}, signed ${first.attempts === 1 ? "once" : `${first.attempts} times`}`,
        first.requestId && [", for ", h("a", { href: `#/requests/${first.requestId}` }, h("code", {}, short(first.requestId)))],
        ".",
        first.problem && h("span", { class: "problem" }, ` The node says: ${first.problem}`),
      ),
  ];
}
