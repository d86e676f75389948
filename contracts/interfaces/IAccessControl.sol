// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IUserDecryption} from "./IUserDecryption.sol";

/// @title Who may use and decrypt a handle (ACL)
/// @notice Rights on handles only grow. The executor grants the first right on a handle; everyone else passes on a right it holds.
/// @dev Names are the ecosystem's, so `@fhevm/solidity` calls this contract unchanged.
interface IAccessControl is IUserDecryption {
    /// @notice `account` received a lasting right on `handle` from `caller`.
    event Allowed(address indexed caller, address indexed account, bytes32 handle);
    /// @notice `caller` made `handles` publicly decryptable, for ever.
    event AllowedForDecryption(address indexed caller, bytes32[] handles);

    /// @notice `account` holds no right on `handle` that it could pass on.
    error SenderNotAllowed(bytes32 handle, address account);
    /// @notice Without an executor nobody could ever hold a right.
    error ZeroExecutor();
    /// @notice An empty list was given.
    error EmptyHandles();

    /// @notice Gives `account` a lasting right on `handle`.
    function allow(bytes32 handle, address account) external;

    /// @notice Gives `account` a right on `handle` that ends with the transaction.
    /// @dev The executor may do so for every handle: it is where rights begin.
    function allowTransient(bytes32 handle, address account) external;

    /// @notice Makes handles publicly decryptable. Irreversible.
    function allowForDecryption(bytes32[] calldata handles) external;

    /// @notice Ends all transient rights of this transaction (account abstraction bundles several users in one).
    function cleanTransientStorage() external;

    /// @notice Whether `account` may use `handle` now, by a lasting or a transient right.
    function isAllowed(bytes32 handle, address account) external view returns (bool);

    /// @notice Whether `account` holds a transient right on `handle`.
    function allowedTransient(bytes32 handle, address account) external view returns (bool);

    /// @notice Whether `account` holds a lasting right on `handle`.
    function persistAllowed(bytes32 handle, address account) external view returns (bool);

    /// @notice Whether anyone may have `handle` decrypted.
    function isAllowedForDecryption(bytes32 handle) external view returns (bool);

    /// @notice The first of `handles` that `account` may not have decrypted (neither lasting right nor public), or zero.
    function firstNotDecryptable(bytes32[] calldata handles, address account) external view returns (bytes32);

    /// @notice There is no deny list: always false.
    function isAccountDenied(address account) external view returns (bool);

    /// @notice The executor, the only one that grants first rights.
    function fheExecutor() external view returns (address);

    /// @notice The executor, under the ecosystem's name.
    function getFHEVMExecutorAddress() external view returns (address);
}
