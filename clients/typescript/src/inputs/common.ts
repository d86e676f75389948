/** What both forms of `@kms/client/inputs` have. */

export type { Hex } from "../bytes.js";
export { CoprocessorError, InputError, KmsError } from "../errors.js";
export type { FheTypeName } from "../handle.js";
export type { HttpOptions } from "../http.js";
export { Coprocessor, type InputKeys, type InputReceipt } from "./coprocessor.js";
export { type EncryptedInputs, InputEncryptor, type InputEncryptorOptions, InputList } from "./encryptor.js";
export { type InputBinding, type TypedValue, inputHandle, inputMetadata } from "./list.js";
export type { Prover, ProverAnswer, ProverTask } from "./prover.js";
