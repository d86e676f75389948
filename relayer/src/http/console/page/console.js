// Which view is shown, and what all of them need: the overview that goes on, the search, the key.

import { follow, key } from "./api.js";
import { h, show } from "./dom.js";
import { overview } from "./overview.js";
import { request } from "./request.js";
import { requests } from "./requests.js";

const main = document.getElementById("main");
const query = document.getElementById("query");

/** What all views know. `now` is the relayer's clock: it may differ from ours. */
const world = { overview: null, ahead: 0, moved: 0, now: () => Date.now() + world.ahead };

let view = null;
let following = null;
let refused = null;

function draw() {
  show(main, refused ? signIn() : (view?.draw() ?? []));
  document.getElementById("instance").textContent = world.overview?.instance ?? "";
}

const LINKS = { waiting: "Connecting…", live: "Live", lost: "Connection lost, trying again", refused: "No access" };

function link(state) {
  const place = document.getElementById("link");
  place.dataset.state = state;
  if (place.textContent !== LINKS[state]) place.textContent = LINKS[state];
}

/** Opens the view that the address names. */
function open() {
  const address = location.hash.replace(/^#/, "") || "/";
  if (!address.startsWith("/")) return;
  view?.close();
  const [path, search = ""] = address.split("?");
  const [, place, id] = path.split("/");
  const values = new URLSearchParams(search);
  if (place === "requests" && id) view = request(world, id, draw, refuse);
  else if (place === "requests") view = requests(world, values, draw, refuse);
  else view = overview(world);
  query.value = values.get("search") ?? "";
  for (const one of document.querySelectorAll("nav a")) {
    const here = one.hash === (place === "requests" ? "#/requests" : "#/");
    if (here) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  document.title = `${view.title} · Relayer`;
  main.replaceChildren();
  scrollTo(0, 0);
  draw();
}

/** Without access, only a key helps. */
function refuse(error) {
  if (![401, 403].includes(error.status)) return false;
  refused = error;
  following?.abort();
  link("refused");
  draw();
  return true;
}

function signIn() {
  const submit = (event) => {
    event.preventDefault();
    key.set(new FormData(event.target).get("key").trim());
    connect();
    open();
  };
  const tried = refused.label === "unknown_key" || refused.label === "operators_only";
  return h(
    "section",
    { class: "card narrow" },
    h("h1", {}, "Operator’s key"),
    h("p", { class: tried ? "problem" : "muted", role: tried ? "alert" : null }, sentence(refused.message)),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      h("label", { for: "key" }, "Key"),
      h("input", { id: "key", name: "key", type: "password", autocomplete: "off", required: true }),
      h("button", { type: "submit", class: "primary" }, "Open the console"),
    ),
    h("p", { class: "muted small" }, "It stays in this tab, and is sent to this relayer only."),
  );
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function connect() {
  refused = null;
  following?.abort();
  following = new AbortController();
  link("waiting");
  const heard = (name, data) => {
    if (name === "overview") {
      world.overview = data;
      world.ahead = data.now - Date.now();
    }
    if (name === "moves") {
      world.moved += 1;
      view?.moved?.(data);
    }
    draw();
  };
  const changed = (state, error) => (state === "refused" ? refuse(error) || link("lost") : link(state));
  void follow("api/events", following.signal, heard, changed);
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = query.value.trim();
  const digits = text.replace(/^0x/i, "");
  location.hash = /^[0-9a-f]{64}$/i.test(digits) ? `#/requests/0x${digits.toLowerCase()}` : text ? `#/requests?search=${encodeURIComponent(text)}` : "#/requests";
});
addEventListener("hashchange", open);
// Ages grow while nothing happens.
setInterval(() => !document.hidden && !refused && draw(), 1000);

connect();
open();
