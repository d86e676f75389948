/** The token: its balances' handles, their values for the holder, and transfers. */

import { type Address, type Hex, parseAbi } from "viem";
import {
  type Committee,
  KeyPair,
  type Permit,
  type Progress,
  Relayer,
  type Reconstruction,
  UserDecryption,
  createPermit,
  permitTypedData,
  readActiveKey,
  readCommittee,
  toHex,
} from "../src/index.js";
import { browserProver, createInputEncryptor } from "../src/inputs/browser.js";
import { type Config, type Wallet, chainOf, reader } from "./setup.js";

const abi = parseAbi([
  "function confidentialBalanceOf(address account) view returns (bytes32)",
  "function confidentialTransfer(address to, bytes32 encryptedAmount, bytes inputProof) returns (bytes32)",
]);
/** A permit is used for as long as the page is open, and a day at most. */
const DAYS = 1;

/** What the page shows while it decrypts. */
export type Stage = "permit" | "ask" | "shares";

/** The token in the eyes of one holder. */
export class Token {
  private readonly chain;
  private readonly relayer;
  private committee: Promise<Committee> | undefined;
  private session: { keys: KeyPair; permit: Permit; signature: Hex } | undefined;

  constructor(
    private readonly config: Config,
    readonly wallet: Wallet,
  ) {
    this.chain = reader(config);
    this.relayer = new Relayer({ url: config.relayerUrl });
  }

  /** Committee and domain, from the chain and never from a relayer. */
  parties(): Promise<Committee> {
    return (this.committee ??= readCommittee(this.chain, this.config.contracts.kmsVerifier));
  }

  /** Handle of the holder's balance; `undefined` if it never had one. */
  async handle(): Promise<Hex | undefined> {
    const args = [this.wallet.account.address] as const;
    const handle = await this.chain.readContract({ address: this.config.token, abi, functionName: "confidentialBalanceOf", args });
    return BigInt(handle) === 0n ? undefined : handle;
  }

  /** The value of a handle, put together here. The first call makes a key pair and asks the wallet to sign a permit for it. */
  async decrypt(handle: Hex, on: (stage: Stage, progress?: Progress) => void): Promise<Reconstruction> {
    const { parties, domain } = await this.parties();
    if (!this.session) {
      on("permit");
      this.session = await this.authorise(parties.contextId);
    }
    const { keys, permit, signature } = this.session;
    on("ask");
    const hostChainId = BigInt(this.config.chainId);
    const request = { hostChainId, permit, signature, pairs: [{ handle, contract: this.config.token }] };
    const decryption = new UserDecryption({ parties, domain, request, keys });
    return this.relayer.decrypt(decryption, { timeoutMs: 120_000, onProgress: (progress) => on("shares", progress) });
  }

  private async authorise(contextId: Hex) {
    const keys = KeyPair.generate();
    const { domain } = await this.parties();
    const user = this.wallet.account.address;
    const permit = createPermit({ user, publicKey: toHex(keys.publicKey), contracts: [this.config.token], days: DAYS, contextId });
    const data = permitTypedData(permit, BigInt(this.config.chainId), domain);
    const { account, client } = this.wallet;
    // One call per primary type, so that each is typed.
    const signature = await (data.primaryType === "UserDecryptRequestVerification"
      ? client.signTypedData({ account, ...data })
      : client.signTypedData({ account, ...data }));
    return { keys, permit, signature };
  }

  /** Encrypts an amount, proves it, and sends it. Returns when the transfer is in a block. */
  async transfer(to: Address, amount: bigint, say: (what: string) => void): Promise<void> {
    const { config, wallet } = this;
    const { account, client } = wallet;
    say("Reading the public key …");
    const encryptor = createInputEncryptor({
      coprocessors: [config.coprocessorUrl],
      hostChainId: BigInt(config.chainId),
      accessControl: config.contracts.accessControl,
      keyId: await readActiveKey(this.chain, config.contracts.keyManagement),
      prover: browserProver({ worker: () => new Worker("worker.js", { type: "module" }) }),
    });
    await encryptor.load();
    say("Encrypting and proving, which takes some seconds …");
    const list = encryptor.inputs({ contract: config.token, user: account.address }).addUint64(amount);
    const { handles, inputProof } = await list.encrypt();
    say("Sending …");
    const hash = await client.writeContract({
      account,
      chain: chainOf(config),
      address: config.token,
      abi,
      functionName: "confidentialTransfer",
      args: [to, handles[0]!, inputProof],
    });
    const receipt = await this.chain.waitForTransactionReceipt({ hash });
    if (receipt.status !== "success") throw new Error("the token refused the transfer");
  }

  /** Forgets the key pair that reads. */
  end(): void {
    this.session?.keys.destroy();
    this.session = undefined;
  }
}
