// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FheType} from "../interfaces/FheType.sol";
import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {IFheExecutor} from "../interfaces/IFheExecutor.sol";
import {IInputVerifier} from "../interfaces/IInputVerifier.sol";
import {Handles} from "../libraries/Handles.sol";

/// @title Symbolic computation on handles
/// @notice A result's handle is a hash of operation, inputs, this contract, the ACL, the chain and the block. Equal calls within one
/// block give the same handle, which stands for the same ciphertext.
contract FheExecutor is IFheExecutor {
    bytes32 private constant DOMAIN = keccak256("KMS-COMPUTE-1");

    IAccessControl private immutable _acl;
    IInputVerifier private immutable _inputVerifier;

    /// @param acl the ACL, which knows this contract as the granter of first rights.
    /// @param inputVerifier checks encrypted inputs.
    constructor(IAccessControl acl, IInputVerifier inputVerifier) {
        _acl = acl;
        _inputVerifier = inputVerifier;
    }

    /// @notice Every other operation of the ecosystem's executor.
    fallback() external {
        revert UnsupportedOperation(msg.sig);
    }

    /// @inheritdoc IFheExecutor
    function fheAdd(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _arithmetic(lhs, rhs, scalarByte, false);
        emit FheAdd(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFheExecutor
    function fheSub(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _arithmetic(lhs, rhs, scalarByte, false);
        emit FheSub(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFheExecutor
    function fheGe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _arithmetic(lhs, rhs, scalarByte, true);
        emit FheGe(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFheExecutor
    function fheEq(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result) {
        result = _binary(lhs, rhs, scalarByte, Handles.BOOL);
        emit FheEq(msg.sender, lhs, rhs, scalarByte, result);
    }

    /// @inheritdoc IFheExecutor
    function fheIfThenElse(bytes32 control, bytes32 ifTrue, bytes32 ifFalse) external returns (bytes32 result) {
        _requireUsable(control);
        _requireUsable(ifTrue);
        _requireUsable(ifFalse);
        if (Handles.typeOf(control) != Handles.BOOL) revert UnsupportedOperandType(Handles.typeOf(control));
        uint8 fheType = _sameType(ifTrue, ifFalse);
        result = _grant(keccak256(abi.encode(msg.sig, control, ifTrue, ifFalse)), fheType);
        emit FheIfThenElse(msg.sender, control, ifTrue, ifFalse, result);
    }

    /// @inheritdoc IFheExecutor
    function cast(bytes32 ct, FheType toType) external returns (bytes32 result) {
        _requireUsable(ct);
        uint8 from = Handles.typeOf(ct);
        uint8 to = FheType.unwrap(toType);
        if (from == Handles.ADDRESS) revert UnsupportedOperandType(from);
        if (to == Handles.BOOL || to == Handles.ADDRESS || Handles.bitsOf(to) == 0) revert UnsupportedOperandType(to);
        result = _grant(keccak256(abi.encode(msg.sig, ct, toType)), to);
        emit Cast(msg.sender, ct, to, result);
    }

    /// @inheritdoc IFheExecutor
    function trivialEncrypt(uint256 pt, FheType toType) external returns (bytes32 result) {
        uint8 to = FheType.unwrap(toType);
        if (Handles.bitsOf(to) == 0) revert UnsupportedOperandType(to);
        _requireFits(pt, to);
        result = _grant(keccak256(abi.encode(msg.sig, pt, toType)), to);
        emit TrivialEncrypt(msg.sender, pt, to, result);
    }

    /// @inheritdoc IFheExecutor
    function verifyInput(bytes32 inputHandle, address user, bytes calldata inputProof, FheType inputType)
        external
        returns (bytes32 result)
    {
        uint8 actual = Handles.typeOf(inputHandle);
        if (actual != FheType.unwrap(inputType)) revert InputTypeMismatch(FheType.unwrap(inputType), actual);
        result = _inputVerifier.verifyInput(
            IInputVerifier.ContextUserInputs({userAddress: user, contractAddress: msg.sender}), inputHandle, inputProof
        );
        _acl.allowTransient(result, msg.sender);
        emit VerifyInput(msg.sender, inputHandle, user, inputProof, actual, result);
    }

    /// @inheritdoc IFheExecutor
    function accessControl() external view returns (address) {
        return address(_acl);
    }

    /// @inheritdoc IFheExecutor
    function getACLAddress() external view returns (address) {
        return address(_acl);
    }

    /// @inheritdoc IFheExecutor
    function getInputVerifierAddress() external view returns (address) {
        return address(_inputVerifier);
    }

    /// @dev A binary operation on uint8…uint128.
    function _arithmetic(bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bool toBool) private returns (bytes32) {
        uint8 fheType = Handles.typeOf(lhs);
        if (fheType < Handles.UINT8 || fheType > Handles.UINT128) revert UnsupportedOperandType(fheType);
        return _binary(lhs, rhs, scalarByte, toBool ? Handles.BOOL : fheType);
    }

    /// @dev A binary operation on two handles of one type, or on a handle and a plain value that fits into its type.
    function _binary(bytes32 lhs, bytes32 rhs, bytes1 scalarByte, uint8 resultType) private returns (bytes32) {
        _requireUsable(lhs);
        if (scalarByte == 0x01) {
            _requireFits(uint256(rhs), Handles.typeOf(lhs));
        } else if (scalarByte == 0x00) {
            _requireUsable(rhs);
            _sameType(lhs, rhs);
        } else {
            revert InvalidScalarByte(scalarByte);
        }
        return _grant(keccak256(abi.encode(msg.sig, lhs, rhs, scalarByte)), resultType);
    }

    /// @dev Derives the result's handle and grants it to the caller for this transaction.
    function _grant(bytes32 operation, uint8 fheType) private returns (bytes32 handle) {
        bytes32 hash = keccak256(
            abi.encode(
                DOMAIN,
                operation,
                address(this),
                address(_acl),
                block.chainid,
                blockhash(block.number - 1),
                block.timestamp
            )
        );
        handle = Handles.build(hash, Handles.COMPUTED, uint64(block.chainid), fheType);
        _acl.allowTransient(handle, msg.sender);
    }

    /// @dev The handle is well-formed and the caller may use it.
    function _requireUsable(bytes32 handle) private view {
        if (!_acl.isAllowed(handle, msg.sender)) revert HandleNotAllowed(handle, msg.sender);
    }

    /// @dev The plain value fits into the type; a boolean is 0 or 1.
    function _requireFits(uint256 value, uint8 fheType) private pure {
        if (!Handles.fits(value, fheType)) revert PlaintextOutOfRange(value, fheType);
    }

    /// @dev Both handles have one type, which is returned.
    function _sameType(bytes32 a, bytes32 b) private pure returns (uint8 fheType) {
        fheType = Handles.typeOf(a);
        if (fheType != Handles.typeOf(b)) revert IncompatibleTypes(fheType, Handles.typeOf(b));
    }
}
