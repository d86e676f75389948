/** The page: a wallet, its encrypted balance, its value for the holder's eyes, and transfers. */

import { type Hex, formatUnits, getAddress, isAddress, parseUnits } from "viem";
import { KmsError, type Progress, readCommittee } from "../src/index.js";
import { type Config, type Wallet, browserWallet, injected, onLocalhost, readConfig, reader, testWallet } from "./setup.js";
import { type Stage, Token } from "./token.js";

const DECIMALS = 6;
/** Between two looks at the chain for a changed balance. */
const LOOK_MS = 2_000;
const HIDDEN = "••••••";

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}
const show = (id: string, shown = true) => (element(id).hidden = !shown);
const text = (id: string, value: string) => (element(id).textContent = value);
const short = (hex: string) => `${hex.slice(0, 6)}…${hex.slice(-4)}`;
const busy = (id: string, on: boolean) => (element<HTMLButtonElement>(id).disabled = on);

let config: Config;
let token: Token | undefined;
let handle: Hex | undefined;
/** The handle whose value is shown. */
let opened: Hex | undefined;

/** What errors mean to a person; whatever stands nowhere here is shown as it is. */
const WORDS: Record<string, string> = {
  Unreachable: "The relayer or the coprocessor can't be reached. Is the demo still running?",
  Timeout: "No answer in time. The parties may be busy; try again.",
  Undecided: "Not enough parties gave shares that fit together.",
  rate_limited: "Too many questions at once. Wait a moment and try again.",
  NotYetValid: "The clock of this device is ahead of the chain. The permit is not valid yet.",
  Expired: "The permit has ended. Disconnect and connect again to sign a new one.",
  NotIsolated: "This browser does not let the page compute with several threads, which encrypting needs.",
};

function fail(error: unknown): void {
  const known = error instanceof KmsError ? error.code : undefined;
  const refused = (error as { code?: unknown }).code === 4001;
  const message = error instanceof Error ? ((error as { shortMessage?: string }).shortMessage ?? error.message) : String(error);
  text("problem-text", refused ? "The wallet said no: nothing was signed." : ((known && WORDS[known]) ?? message));
  text("problem-code", known && WORDS[known] ? `${known}: ${message}` : (known ?? ""));
  show("problem");
  element("problem").scrollIntoView({ block: "nearest" });
}

async function guarded(button: string, work: () => Promise<void>): Promise<void> {
  show("problem", false);
  busy(button, true);
  try {
    await work();
  } catch (error) {
    fail(error);
  } finally {
    busy(button, false);
  }
}

async function connect(open: () => Promise<Wallet> | Wallet): Promise<void> {
  const wallet = await open();
  token = new Token(config, wallet);
  text("account-name", wallet.name);
  text("account-address", short(wallet.account.address));
  element("account-address").title = wallet.account.address;
  lock();
  await look();
  show("connect", false);
  for (const id of ["account", "balance", "transfer"]) show(id);
  element("decrypt").focus();
}

function disconnect(): void {
  token?.end();
  token = handle = opened = undefined;
  show("connect");
  for (const id of ["account", "balance", "transfer", "problem"]) show(id, false);
}

/** Reads the handle again. A new one means a changed balance: what is shown is of the past. */
async function look(): Promise<void> {
  const asked = token;
  const found = await asked?.handle();
  if (asked !== token) return;
  handle = found;
  text("handle", handle ?? "none yet: this account never had a balance");
  if (!element("steps").classList.contains("running")) busy("decrypt", handle === undefined);
  if (opened !== undefined && opened !== handle) lock("Your balance has changed since you decrypted it.");
}

function lock(note = "Nobody can read it here, and neither can the chain."): void {
  opened = undefined;
  text("balance-value", HIDDEN);
  text("balance-state", "encrypted");
  element("balance-state").classList.remove("open");
  text("balance-note", note);
  show("hide", false);
  show("decrypt");
  show("steps", false);
}

function unlock(of: Hex, units: bigint, note: string): void {
  opened = of;
  const [whole = "0", part = ""] = formatUnits(units, DECIMALS).split(".");
  const unit = document.createElement("small");
  unit.textContent = " CONF";
  element("balance-value").replaceChildren(`${BigInt(whole).toLocaleString("en")}.${part.padEnd(2, "0")}`, unit);
  text("balance-state", "only you see this");
  element("balance-state").classList.add("open");
  text("balance-note", note);
  show("decrypt", false);
  show("hide");
}

const STAGES: [Stage, string][] = [
  ["permit", "Sign a permit for a fresh key"],
  ["ask", "The parties seal their shares to it"],
  ["shares", "Check shares and put them together here"],
];

/** Shows one stage as running, those before as done with their times. */
class Steps {
  private readonly items: Map<Stage, HTMLLIElement>;
  private readonly begun = new Map<Stage, number>();
  private current: Stage | undefined;

  constructor(private readonly list = element("steps")) {
    this.items = new Map(
      STAGES.map(([stage, label]) => {
        const item = document.createElement("li");
        const [name, time] = [document.createElement("span"), document.createElement("span")];
        name.textContent = label;
        time.className = "time";
        item.append(name, time);
        return [stage, item];
      }),
    );
    list.replaceChildren(...this.items.values());
    list.classList.add("running");
    list.hidden = false;
  }

  enter(stage: Stage, progress?: Progress): void {
    if (stage !== this.current) {
      this.leave("done");
      // A stage that was skipped is over as well.
      for (const [before] of STAGES.slice(0, STAGES.findIndex(([name]) => name === stage))) this.items.get(before)!.className = "done";
      this.current = stage;
      this.begun.set(stage, performance.now());
      this.items.get(stage)!.className = "running";
    }
    if (stage === "shares" && progress) {
      const [found, { needed }] = [progress.shares.length, progress];
      const text = found < needed ? `Check shares: ${found} of ${needed} needed` : `${found} shares checked and put together here`;
      this.items.get(stage)!.firstElementChild!.textContent = text;
    }
  }

  leave(how: "done" | "failed"): void {
    const item = this.current && this.items.get(this.current);
    if (!item) return;
    item.className = how;
    item.lastElementChild!.textContent = `${Math.round(performance.now() - this.begun.get(this.current!)!)} ms`;
  }

  end(how: "done" | "failed"): void {
    this.leave(how);
    this.list.classList.remove("running");
  }
}

async function decrypt(): Promise<void> {
  const [asked, of] = [token, handle];
  if (!asked || !of) return;
  const steps = new Steps();
  try {
    const { values, agreeing, progress } = await asked.decrypt(of, (stage, state) => steps.enter(stage, state));
    steps.end("done");
    if (asked !== token) return;
    const liars = progress.wrong.map(({ party }) => party);
    const note = `From shares of parties ${agreeing.join(", ")}.${liars.length ? ` Wrong: ${liars.join(", ")}.` : ""} It exists in this page only.`;
    unlock(of, values[0]!.value as bigint, note);
  } catch (error) {
    steps.end("failed");
    throw error;
  }
}

function readForm(): { to: Hex; amount: bigint } {
  const [to, amount] = [element<HTMLInputElement>("to"), element<HTMLInputElement>("amount")];
  const invalid = (input: HTMLInputElement, wrong: boolean, message: string) => {
    input.setAttribute("aria-invalid", String(wrong));
    if (!wrong) return;
    input.focus();
    throw new Error(message);
  };
  const address = to.value.trim();
  invalid(to, !isAddress(address), "The receiver is no address: 0x and 40 hex digits.");
  const digits = amount.value.trim();
  const units = /^\d{1,13}(\.\d{1,6})?$/.test(digits) ? parseUnits(digits, DECIMALS) : 0n;
  invalid(amount, units <= 0n || units >= 1n << 64n, "The amount is a number above zero with at most six places after the point.");
  return { to: getAddress(address), amount: units };
}

async function send(): Promise<void> {
  const say = (what: string) => text("transfer-status", what);
  try {
    const { to, amount } = readForm();
    await token?.transfer(to, amount, say);
    say(`Sent to ${short(to)}. Only you two can read how much; if you had less than that, it was nothing.`);
    await look();
  } catch (error) {
    say("");
    throw error;
  }
}

async function start(): Promise<void> {
  config = await readConfig();
  const test = config.testWallet !== undefined && onLocalhost();
  show("connect-test", test);
  show("test-warning", test);
  if (test) text("connect-test", `Use the test wallet (${config.testWallet!.name})`);
  show("connect-browser", injected() !== undefined);
  show("no-wallet", !test && !injected());
  if (config.friend) {
    element<HTMLInputElement>("to").value = config.friend.address;
    text("to-name", `(${config.friend.name})`);
  }
  const on = (id: string, event: string, work: () => Promise<void>, button = id) =>
    element(id).addEventListener(event, (what) => {
      what.preventDefault();
      void guarded(button, work);
    });
  on("connect-test", "click", () => connect(() => testWallet(config)));
  on("connect-browser", "click", () => connect(() => browserWallet(config)));
  on("decrypt", "click", decrypt);
  on("transfer-form", "submit", send, "send");
  element("hide").addEventListener("click", () => lock());
  element("disconnect").addEventListener("click", disconnect);
  element("problem-close").addEventListener("click", () => show("problem", false));
  // A missed look is made up for by the next one.
  setInterval(() => void look().catch(() => undefined), LOOK_MS);
  const { parties } = await readCommittee(reader(config), config.contracts.kmsVerifier);
  text("committee", `${parties.signers.length} parties hold shares of the key; ${parties.t} may be malicious.`);
}

start().catch(fail);
