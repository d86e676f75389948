/** Encryption of inputs with proof: values in, handles and input proof out. */

import { type Hex, toHex, tryFromHex } from "../bytes.js";
import { InputError } from "../errors.js";
import type { FheTypeName } from "../handle.js";
import type { HttpOptions } from "../http.js";
import { Coprocessor, type InputKeys } from "./coprocessor.js";
import { type InputBinding, type TypedValue, checkList, inputMetadata, listHandles, mergeInputProofs, typedValue } from "./list.js";
import type { Prover } from "./prover.js";

/** Options of an {@link InputEncryptor}. Chain id, ACL and key id are the caller's to know: from the chain, never from a coprocessor. */
export interface InputEncryptorOptions {
  /** Coprocessors to post to; keys come from the first. As many as the chain's `InputVerifier` wants signatures. */
  readonly coprocessors: readonly (string | HttpOptions)[];
  /** Host chain. */
  readonly hostChainId: bigint;
  /** Its ACL. */
  readonly accessControl: Hex;
  /** The key to encrypt under (`KeyManagement.activeKey`). */
  readonly keyId: Hex;
  /** Makes the proofs; absent: tfhe's WebAssembly in a thread of its own. */
  readonly prover?: Prover;
}

/** Encrypted inputs, to be handed to the contract. */
export interface EncryptedInputs {
  /** A handle per value, in their order. */
  readonly handles: readonly Hex[];
  /** The bytes for the contract's `inputProof`. */
  readonly inputProof: Hex;
}

/** Encrypts values for one chain under one key. Keys are fetched once. */
export class InputEncryptor {
  private readonly coprocessors: readonly Coprocessor[];
  private readonly prover: Prover;
  private keys: Promise<InputKeys> | undefined;

  constructor(private readonly options: InputEncryptorOptions & { readonly prover: Prover }) {
    if (options.coprocessors.length === 0) throw new TypeError("no coprocessor");
    if (!tryFromHex(options.keyId, 32)) throw new TypeError("no key id");
    this.coprocessors = options.coprocessors.map((one) => new Coprocessor(typeof one === "string" ? { url: one } : one));
    this.prover = options.prover;
  }

  /** Starts a list that `user` alone may hand to `contract`. */
  inputs(to: { readonly contract: Hex; readonly user: Hex }): InputList {
    const { hostChainId, accessControl } = this.options;
    const binding = { hostChainId, accessControl, contract: to.contract, user: to.user };
    return new InputList(inputMetadata(binding), (metadata, values, signal) => this.encrypt(binding, metadata, values, signal));
  }

  /** Fetches and checks public key and reference string, if that has not been done. */
  async load(signal?: AbortSignal): Promise<InputKeys> {
    const loading = (this.keys ??= this.coprocessors[0]!.keys(this.options.keyId, signal));
    try {
      return await loading;
    } catch (error) {
      // The next call tries again.
      if (this.keys === loading) this.keys = undefined;
      throw error;
    }
  }

  private async encrypt(
    binding: InputBinding,
    metadata: Uint8Array,
    values: readonly TypedValue[],
    signal?: AbortSignal,
  ): Promise<EncryptedInputs> {
    const { publicKey, crs, maxBits } = await this.load(signal);
    checkList(values, maxBits);
    const list = await this.prover({ publicKey, crs, metadata, values }, signal);
    const handles = listHandles(list, binding, values);
    const receipts = await Promise.all(this.coprocessors.map((coprocessor) => coprocessor.post(list, binding, signal)));
    for (const receipt of receipts) {
      if (receipt.handles.join() !== handles.join()) {
        throw new InputError("ForeignProof", "a coprocessor answered with handles of something else");
      }
    }
    return { handles, inputProof: toHex(mergeInputProofs(receipts.map((receipt) => receipt.inputProof), handles)) };
  }
}

/** Values on their way into one encrypted list. */
export class InputList {
  private readonly values: TypedValue[] = [];

  /** @internal */
  constructor(
    private readonly metadata: Uint8Array,
    private readonly run: (metadata: Uint8Array, values: readonly TypedValue[], signal?: AbortSignal) => Promise<EncryptedInputs>,
  ) {}

  /** Appends a value of a type that is known at run time. Throws an {@link InputError} if it is none of the type. */
  add(type: FheTypeName, value: boolean | bigint | number | Hex): this {
    this.values.push(typedValue(type, value));
    return this;
  }

  addBool(value: boolean): this {
    return this.add("bool", value);
  }
  addUint8(value: bigint | number): this {
    return this.add("uint8", value);
  }
  addUint16(value: bigint | number): this {
    return this.add("uint16", value);
  }
  addUint32(value: bigint | number): this {
    return this.add("uint32", value);
  }
  addUint64(value: bigint | number): this {
    return this.add("uint64", value);
  }
  addUint128(value: bigint | number): this {
    return this.add("uint128", value);
  }
  addUint256(value: bigint | number): this {
    return this.add("uint256", value);
  }
  addAddress(value: Hex): this {
    return this.add("address", value);
  }

  /**
   * Encrypts and proves, which takes seconds and does not block this thread, and posts the list. `signal` gives it up at any
   * moment.
   */
  async encrypt(options: { readonly signal?: AbortSignal } = {}): Promise<EncryptedInputs> {
    return this.run(this.metadata, [...this.values], options.signal);
  }
}
