// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Format of a handle
/// @notice bytes 0–20 hash, 21 index (0xff: computed), 22–29 host chain id (big-endian), 30 type, 31 version 0.
/// @dev The Rust module `kms_chain::handle` holds the same rules; golden files bind the two.
library Handles {
    uint8 internal constant BOOL = 0;
    uint8 internal constant UINT8 = 2;
    uint8 internal constant UINT16 = 3;
    uint8 internal constant UINT32 = 4;
    uint8 internal constant UINT64 = 5;
    uint8 internal constant UINT128 = 6;
    uint8 internal constant ADDRESS = 7;
    uint8 internal constant UINT256 = 8;

    /// @dev Index byte of a computed handle.
    uint8 internal constant COMPUTED = 0xff;
    /// @dev Last type number that the ecosystem has named.
    uint8 internal constant LAST_KNOWN_TYPE = 83;
    /// @dev Most bits that one request may decrypt.
    uint256 internal constant MAX_REQUEST_BITS = 2048;

    /// @dev Byte `t` holds the bits of type `t` divided by two; zero: unsupported. A boolean counts two.
    uint256 private constant HALF_BITS =
        1 | (4 << 16) | (8 << 24) | (16 << 32) | (32 << 40) | (64 << 48) | (80 << 56) | (128 << 64);

    /// @notice The list of handles is empty.
    error EmptyHandles();
    /// @notice The handle's version is not 0.
    error UnknownVersion(bytes32 handle);
    /// @notice The handle's type is no type at all.
    error UnknownType(bytes32 handle);
    /// @notice The handle's type exists, but this system does not support it.
    error UnsupportedType(bytes32 handle);
    /// @notice The handle belongs to another chain.
    error ForeignChain(bytes32 handle, uint64 chainId);
    /// @notice One request may decrypt 2048 bits; `bits`: those counted so far.
    error TooManyBits(uint256 bits);

    /// @notice The type number, unchecked.
    function typeOf(bytes32 handle) internal pure returns (uint8) {
        return uint8(uint256(handle) >> 8);
    }

    /// @notice The host chain.
    function chainIdOf(bytes32 handle) internal pure returns (uint64) {
        return uint64(uint256(handle) >> 16);
    }

    /// @notice The index byte.
    function indexOf(bytes32 handle) internal pure returns (uint8) {
        return uint8(uint256(handle) >> 80);
    }

    /// @notice Builds a handle: the first 21 bytes of `hash` and the fields.
    function build(bytes32 hash, uint8 index, uint64 chainId, uint8 fheType) internal pure returns (bytes32) {
        return bytes32(
            (uint256(hash) >> 88 << 88) | (uint256(index) << 80) | (uint256(chainId) << 16) | (uint256(fheType) << 8)
        );
    }

    /// @notice Bits of a type as requests count them; 0 when unsupported.
    function bitsOf(uint8 fheType) internal pure returns (uint256) {
        return fheType > UINT256 ? 0 : ((HALF_BITS >> (uint256(fheType) * 8)) & 0xff) * 2;
    }

    /// @notice Whether a plain value is one of a supported type; a boolean is 0 or 1.
    function fits(uint256 value, uint8 fheType) internal pure returns (bool) {
        uint256 bits = fheType == BOOL ? 1 : bitsOf(fheType);
        return bits == 256 || value >> bits == 0;
    }

    /// @notice Reverts unless the handle is well-formed, of this chain and of a supported type.
    function check(bytes32 handle) internal view {
        if (uint8(uint256(handle)) != 0) revert UnknownVersion(handle);
        uint8 fheType = typeOf(handle);
        if (bitsOf(fheType) == 0) {
            if (fheType > LAST_KNOWN_TYPE) revert UnknownType(handle);
            revert UnsupportedType(handle);
        }
        uint64 chainId = chainIdOf(handle);
        if (chainId != block.chainid) revert ForeignChain(handle, chainId);
    }

    /// @notice Reverts unless `handles` can be one request; the first fault in the list's order is the one reported.
    function checkRequest(bytes32[] calldata handles) internal view {
        if (handles.length == 0) revert EmptyHandles();
        // A handle counts at least two bits: a longer list need not be looked at.
        if (handles.length > MAX_REQUEST_BITS / 2) revert TooManyBits(2 * handles.length);
        uint256 bits = 0;
        for (uint256 i = 0; i < handles.length; ++i) {
            check(handles[i]);
            bits += bitsOf(typeOf(handles[i]));
            if (bits > MAX_REQUEST_BITS) revert TooManyBits(bits);
        }
    }
}
