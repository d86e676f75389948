// Elements without a library: made of text and never of markup, and brought up to date in place, so that focus, selection and
// what is folded open survive.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes that are null or false are left out; children are nodes, text, or lists of these. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes the children of `parent` what `wanted` says, and touches nothing that is so already. */
export function show(parent, ...wanted) {
  const children = wanted.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  const nodes = children.map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  for (const [place, node] of nodes.entries()) {
    const old = parent.childNodes[place];
    if (!old) parent.append(node);
    else if (!update(old, node)) old.replaceWith(node);
  }
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}

function update(old, node) {
  if (old.nodeType !== node.nodeType || old.nodeName !== node.nodeName) return false;
  if (node.nodeType === Node.TEXT_NODE) {
    if (old.data !== node.data) old.data = node.data;
    return true;
  }
  // Another thing of the same form: what was done to the first is not to be seen at the second.
  if (old.dataset.key !== node.dataset.key) return false;
  for (const { name } of [...old.attributes]) {
    // Whoever looks at it has folded it open.
    if (!node.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const handler of ["onclick", "onsubmit"]) if (old[handler] !== node[handler]) old[handler] = node[handler];
  show(old, [...node.childNodes]);
  return true;
}

const UNITS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
];

/** Milliseconds in words. */
export function span(ms) {
  const [size, name] = UNITS.find(([size]) => ms >= 2 * size) ?? [1000, "s"];
  const value = Math.max(0, ms) / size;
  return `${name === "s" && value < 10 ? value.toFixed(1) : Math.floor(value)} ${name}`;
}

/** How long something took: short times, too. */
export const took = (ms) => (ms < 1000 ? `${Math.max(0, ms)} ms` : span(ms));

/** Time of day, with the date if it was another day. */
export function clock(ms, now) {
  const [then, today] = [new Date(ms), new Date(now)];
  const time = then.toLocaleTimeString(undefined, { hour12: false });
  return then.toDateString() === today.toDateString() ? time : `${then.toLocaleDateString()} ${time}`;
}

/** Wei as ether: exact to a thousandth of the last digit that matters to people. */
export function ether(wei) {
  const [whole, part] = [BigInt(wei) / 10n ** 18n, BigInt(wei) % 10n ** 18n];
  const digits = part.toString().padStart(18, "0").slice(0, 6).replace(/0+$/, "");
  const text = `${whole.toLocaleString("en")}${digits && `.${digits}`}`;
  return whole === 0n && part > 0n && !digits ? "less than 0.000001 ETH" : `${text} ETH`;
}

/** A number with separators. */
export const count = (n) => n.toLocaleString("en");

/** Begin and end of something long in hex. */
export const short = (hex) => (hex.length > 20 ? `${hex.slice(0, 10)}…${hex.slice(-6)}` : hex);

/** A mark that says the same as the colour, and a word that says it again. */
export function mark(kind, text) {
  return h("span", { class: `mark ${kind}` }, text);
}

const KINDS = { "on-chain": "on chain", "public-pull": "public pull", "user-decrypt": "for a user" };

/** A kind of request in words. */
export const kind = (name) => KINDS[name] ?? name;
