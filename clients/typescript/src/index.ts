/**
 * User decryption for web pages and Node: key pair, permit, authentication of the parties' responses, reconstruction.
 *
 * @packageDocumentation
 */

export { type Hex, fromHex, toHex } from "./bytes.js";
export { type ChainReader, type Committee, keyManagementAbi, kmsVerifierAbi, readActiveKey, readCommittee } from "./chain.js";
export {
  type DecryptionOptions,
  type Parties,
  UserDecryption,
  type UserResponse,
} from "./decryption.js";
export { KmsError, RefusedError, RelayerError, RequestError, UndecidedError } from "./errors.js";
export { FHE_TYPES, type FheType, type FheTypeName } from "./handle.js";
export { type Kem, KeyPair, kemOfPublicKey } from "./kem.js";
export type {
  Added,
  ClearValue,
  EnvelopeFault,
  Fault,
  Foreign,
  Group,
  Progress,
  Reconstruction,
  RejectReason,
  Wrong,
} from "./outcome.js";
export {
  type DecryptionDomain,
  type HandleContract,
  type Permit,
  type PermitOptions,
  type UserRequest,
  checkPermit,
  checkRequest,
  createPermit,
  extraDataOfContext,
  permitEnd,
  permitHash,
  permitTimeFault,
  permitTypedData,
  requestId,
  responseHash,
} from "./permit.js";
export { type Collected, type DecryptOptions, type Queued, Relayer, type RelayerOptions, type UserDecryptBody, userDecryptBody } from "./relayer.js";
