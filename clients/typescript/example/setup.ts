/** Where this page finds the chain, the relayer and the coprocessor, and the wallets that it can use. */

import { type Account, type Address, type Chain, type Hex, type PublicClient, type WalletClient, createPublicClient, createWalletClient, custom, defineChain, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

/** `config.json`, as the demo writes it. */
export interface Config {
  readonly chainId: number;
  readonly rpcUrl: string;
  readonly relayerUrl: string;
  readonly coprocessorUrl: string;
  readonly contracts: { readonly accessControl: Address; readonly kmsVerifier: Address; readonly keyManagement: Address };
  readonly token: Address;
  /** A wallet that everybody knows, for localhost. */
  readonly testWallet?: { readonly name: string; readonly insecureKey: Hex };
  /** Whom the form proposes to send to. */
  readonly friend?: { readonly name: string; readonly address: Address };
}

/** Reads `config.json`. */
export async function readConfig(): Promise<Config> {
  const response = await fetch("config.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`config.json: HTTP ${response.status}`);
  return (await response.json()) as Config;
}

/** The host chain. */
export function chainOf(config: Config): Chain {
  return defineChain({
    id: config.chainId,
    name: "Local chain",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [config.rpcUrl] } },
  });
}

/** Reads the host chain. */
export function reader(config: Config): PublicClient {
  return createPublicClient({ chain: chainOf(config), transport: http(config.rpcUrl), pollingInterval: 500 });
}

/** A connected wallet. */
export interface Wallet {
  readonly name: string;
  readonly account: Account;
  readonly client: WalletClient;
}

/** Whether this page was served by this machine: only then the test wallet is offered. */
export function onLocalhost(): boolean {
  return ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
}

/** The wallet whose key stands in `config.json`. */
export function testWallet(config: Config): Wallet {
  if (!config.testWallet || !onLocalhost()) throw new Error("there is no test wallet here");
  const account = privateKeyToAccount(config.testWallet.insecureKey);
  const client = createWalletClient({ account, chain: chainOf(config), transport: http(config.rpcUrl) });
  return { name: `${config.testWallet.name} (test wallet)`, account, client };
}

interface Injected {
  request(call: { method: string; params?: unknown }): Promise<unknown>;
}

/** The wallet that the browser brings, if there is one. */
export function injected(): Injected | undefined {
  return (globalThis as { ethereum?: Injected }).ethereum;
}

/** Asks the browser's wallet for an account on the host chain. */
export async function browserWallet(config: Config): Promise<Wallet> {
  const provider = injected();
  if (!provider) throw new Error("this browser has no wallet");
  const client = createWalletClient({ chain: chainOf(config), transport: custom(provider) });
  const [address] = await client.requestAddresses();
  if (!address) throw new Error("the wallet gave no account");
  if ((await client.getChainId()) !== config.chainId) await client.switchChain({ id: config.chainId });
  return { name: "Your wallet", account: { address, type: "json-rpc" }, client };
}
