// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {TransientSlot} from "@openzeppelin/contracts/utils/TransientSlot.sol";
import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {IUserDecryption} from "../interfaces/IUserDecryption.sol";
import {UserDecryption} from "./UserDecryption.sol";

/// @title Who may use and decrypt a handle (ACL)
/// @dev No owner, no deny list. Rights on handles are never revoked; delegations of reading are. Every right is also an event, so a
/// right can be explained from the chain alone. `multicall` takes several calls of one sender, as the ecosystem's library makes them.
contract AccessControl is IAccessControl, UserDecryption, Multicall {
    using TransientSlot for *;

    /// @dev Transient: number of cleanings so far. It is part of every transient right's place, so that one write forgets them all.
    bytes32 private constant GENERATION_SLOT = keccak256("kms.AccessControl.generation");

    /// @inheritdoc IAccessControl
    address public immutable fheExecutor;

    mapping(bytes32 handle => mapping(address account => bool)) private _allowed;
    mapping(bytes32 handle => bool) private _decryptable;

    /// @param executor the contract that grants first rights (its address is computed before its deployment).
    constructor(address executor) {
        if (executor == address(0)) revert ZeroExecutor();
        fheExecutor = executor;
    }

    /// @inheritdoc IAccessControl
    function allow(bytes32 handle, address account) external {
        _requireAllowed(handle);
        _allowed[handle][account] = true;
        emit Allowed(msg.sender, account, handle);
    }

    /// @inheritdoc IAccessControl
    function allowTransient(bytes32 handle, address account) external {
        if (msg.sender != fheExecutor) _requireAllowed(handle);
        _transientSlot(handle, account).asBoolean().tstore(true);
    }

    /// @inheritdoc IAccessControl
    function allowForDecryption(bytes32[] calldata handles) external {
        if (handles.length == 0) revert EmptyHandles();
        for (uint256 i = 0; i < handles.length; ++i) {
            _requireAllowed(handles[i]);
            _decryptable[handles[i]] = true;
        }
        emit AllowedForDecryption(msg.sender, handles);
    }

    /// @inheritdoc IAccessControl
    /// @dev Anyone may call it: within one transaction it can only take rights away, and they end with it anyway.
    function cleanTransientStorage() external {
        TransientSlot.Uint256Slot generation = GENERATION_SLOT.asUint256();
        generation.tstore(generation.tload() + 1);
    }

    /// @inheritdoc IAccessControl
    function isAllowed(bytes32 handle, address account) external view returns (bool) {
        return _isAllowed(handle, account);
    }

    /// @inheritdoc IAccessControl
    function allowedTransient(bytes32 handle, address account) external view returns (bool) {
        return _transientSlot(handle, account).asBoolean().tload();
    }

    /// @inheritdoc IAccessControl
    function persistAllowed(bytes32 handle, address account) external view returns (bool) {
        return _allowed[handle][account];
    }

    /// @inheritdoc IAccessControl
    function isAllowedForDecryption(bytes32 handle) external view returns (bool) {
        return _decryptable[handle];
    }

    /// @inheritdoc IAccessControl
    function firstNotDecryptable(bytes32[] calldata handles, address account) external view returns (bytes32) {
        for (uint256 i = 0; i < handles.length; ++i) {
            bytes32 handle = handles[i];
            if (!_allowed[handle][account] && !_decryptable[handle]) return handle;
        }
        return bytes32(0);
    }

    /// @inheritdoc IAccessControl
    function isAccountDenied(address) external pure returns (bool) {
        return false;
    }

    /// @inheritdoc IAccessControl
    function getFHEVMExecutorAddress() external view returns (address) {
        return fheExecutor;
    }

    /// @inheritdoc IUserDecryption
    function isHandleDelegatedForUserDecryption(
        address delegator,
        address delegate,
        address contractAddress,
        bytes32 handle
    ) external view returns (bool) {
        return block.timestamp < userDecryptionDelegatedUntil(delegator, delegate, contractAddress)
            && _allowed[handle][delegator] && _allowed[handle][contractAddress];
    }

    /// @dev The caller must hold a right on the handle.
    function _requireAllowed(bytes32 handle) private view {
        if (!_isAllowed(handle, msg.sender)) revert SenderNotAllowed(handle, msg.sender);
    }

    function _isAllowed(bytes32 handle, address account) private view returns (bool) {
        return _transientSlot(handle, account).asBoolean().tload() || _allowed[handle][account];
    }

    /// @dev Place of a transient right: bound to the generation, the handle and the account.
    function _transientSlot(bytes32 handle, address account) private view returns (bytes32) {
        return keccak256(abi.encode(GENERATION_SLOT, GENERATION_SLOT.asUint256().tload(), handle, account));
    }
}
