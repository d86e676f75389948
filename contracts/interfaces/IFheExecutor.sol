// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FheType} from "./FheType.sol";

/// @title Symbolic computation on handles
/// @notice Each call derives the handle of its result, grants it to the caller for the transaction and emits one event that
/// the coprocessors follow. Selectors are those of the ecosystem's executor; operations not listed here revert with
/// `UnsupportedOperation`.
interface IFheExecutor {
    /// @notice `result = lhs + rhs`, wrapping; `rhs` is a plain value when `scalarByte` is 0x01.
    event FheAdd(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice `result = lhs - rhs`, wrapping.
    event FheSub(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice `result = (lhs == rhs)`, a boolean.
    event FheEq(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice `result = (lhs >= rhs)`, a boolean.
    event FheGe(address indexed caller, bytes32 lhs, bytes32 rhs, bytes1 scalarByte, bytes32 result);
    /// @notice `result` encrypts the public value `pt`.
    event TrivialEncrypt(address indexed caller, uint256 pt, uint8 toType, bytes32 result);
    /// @notice `result` is `ct` in another type: zero-extended or truncated.
    event Cast(address indexed caller, bytes32 ct, uint8 toType, bytes32 result);
    /// @notice `result = control ? ifTrue : ifFalse`.
    event FheIfThenElse(address indexed caller, bytes32 control, bytes32 ifTrue, bytes32 ifFalse, bytes32 result);
    /// @notice An encrypted input of `user` entered contract `caller`. `result` equals `inputHandle`.
    event VerifyInput(
        address indexed caller, bytes32 inputHandle, address user, bytes inputProof, uint8 inputType, bytes32 result
    );

    /// @notice The operation (by selector) is not supported by this executor.
    error UnsupportedOperation(bytes4 selector);
    /// @notice `account` may not use `handle`.
    error HandleNotAllowed(bytes32 handle, address account);
    /// @notice The operation does not work on this type.
    error UnsupportedOperandType(uint8 fheType);
    /// @notice The operands' types differ.
    error IncompatibleTypes(uint8 left, uint8 right);
    /// @notice `scalarByte` is neither 0x00 nor 0x01.
    error InvalidScalarByte(bytes1 scalarByte);
    /// @notice The plain value does not fit into the type.
    error PlaintextOutOfRange(uint256 value, uint8 fheType);
    /// @notice The input handle's type is not the type that the contract expects.
    error InputTypeMismatch(uint8 expected, uint8 actual);

    /// @notice Adds; both uint8…uint128 of one type, or `rhs` plain.
    function fheAdd(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Subtracts; both uint8…uint128 of one type, or `rhs` plain.
    function fheSub(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Compares for equality; any supported type. The result is a boolean.
    function fheEq(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Compares `lhs >= rhs`, unsigned; both uint8…uint128 of one type, or `rhs` plain. The result is a boolean.
    function fheGe(bytes32 lhs, bytes32 rhs, bytes1 scalarByte) external returns (bytes32 result);

    /// @notice Selects; `control` is a boolean, the others have one type, which the result has too.
    function fheIfThenElse(bytes32 control, bytes32 ifTrue, bytes32 ifFalse) external returns (bytes32 result);

    /// @notice Casts bool or an unsigned integer to another unsigned integer type.
    function cast(bytes32 ct, FheType toType) external returns (bytes32 result);

    /// @notice Encrypts a public value, which must fit into the type.
    function trivialEncrypt(uint256 pt, FheType toType) external returns (bytes32 result);

    /// @notice Admits an encrypted input of `user` to the calling contract.
    /// @param inputProof see `IInputVerifier`.
    function verifyInput(bytes32 inputHandle, address user, bytes calldata inputProof, FheType inputType)
        external
        returns (bytes32 result);

    /// @notice The ACL.
    function accessControl() external view returns (address);

    /// @notice The ACL, under the ecosystem's name.
    function getACLAddress() external view returns (address);

    /// @notice The input verifier.
    function getInputVerifierAddress() external view returns (address);
}
