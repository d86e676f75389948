// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Counting the signers of a digest
/// @notice Signatures come in any order: 65 bytes r ‖ s ‖ v, low s, v 27 or 28. A signer counts once, however often it signs. A bad or
/// foreign signature that is met before the threshold reverts; those after it are not looked at.
library Signatures {
    /// @dev Half the order of secp256k1: a larger s is the malleable twin.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice The signature at this place is malformed.
    error InvalidSignature(uint256 index);
    /// @notice The signature at this place is somebody else's.
    error ForeignSigner(uint256 index, address signer);
    /// @notice Too few distinct signers.
    error ThresholdNotReached(uint256 signers, uint256 threshold);

    /// @notice Counts packed signatures: `signatures.length` is a multiple of 65.
    /// @param signers whose signatures count, at least one.
    /// @return bitmap bit i: the signer at place i was counted; exactly `threshold` bits.
    function requirePacked(bytes32 digest, bytes calldata signatures, address[] memory signers, uint256 threshold)
        internal
        view
        returns (uint256 bitmap)
    {
        uint256 counted;
        uint256 index;
        uint256 failure;
        address signer;
        // The hot loop. Scratch at the free pointer (not advanced): digest ‖ v ‖ r ‖ s for ecrecover, result over the digest's place + 0x80.
        // The search for a signer goes on where the last one was found, so signatures in the list's order cost one step each.
        assembly ("memory-safe") {
            let scratch := mload(0x40)
            let first := add(signers, 0x20)
            let end := add(first, shl(5, mload(signers)))
            let cursor := first
            let signature := signatures.offset
            let last := add(signature, signatures.length)
            mstore(scratch, digest)
            mstore(add(scratch, 0x20), 0)
            for {} lt(signature, last) { signature := add(signature, 65) } {
                calldatacopy(add(scratch, 0x40), signature, 0x40)
                // v is the last byte of the second word; the precompile rejects all but 27 and 28.
                mstore8(add(scratch, 0x3f), byte(0, calldataload(add(signature, 0x40))))
                mstore(add(scratch, 0x80), 0)
                if iszero(gt(mload(add(scratch, 0x60)), HALF_ORDER)) {
                    pop(staticcall(gas(), 1, scratch, 0x80, add(scratch, 0x80), 0x20))
                }
                signer := mload(add(scratch, 0x80))
                if iszero(signer) {
                    failure := 1
                    break
                }
                let start := cursor
                for {} iszero(eq(mload(cursor), signer)) {} {
                    cursor := add(cursor, 0x20)
                    if eq(cursor, end) { cursor := first }
                    if eq(cursor, start) {
                        failure := 2
                        break
                    }
                }
                if failure { break }
                // The shift's argument order is as meant: 1 << place.
                // slither-disable-next-line incorrect-shift
                let bit := shl(shr(5, sub(cursor, first)), 1)
                if iszero(and(bitmap, bit)) {
                    bitmap := or(bitmap, bit)
                    counted := add(counted, 1)
                    if eq(counted, threshold) { break }
                }
                cursor := add(cursor, 0x20)
                if eq(cursor, end) { cursor := first }
            }
            index := div(sub(signature, signatures.offset), 65)
        }
        if (failure == 1) revert InvalidSignature(index);
        if (failure == 2) revert ForeignSigner(index, signer);
        if (counted != threshold) revert ThresholdNotReached(counted, threshold);
    }

    /// @notice Counts a list of signatures. For calls that are rare: plain Solidity.
    function requireList(bytes32 digest, bytes[] calldata signatures, address[] memory signers, uint256 threshold)
        internal
        pure
    {
        uint256 bitmap = 0;
        uint256 counted = 0;
        uint256 n = signers.length;
        for (uint256 i = 0; i < signatures.length && counted < threshold; ++i) {
            // The third value details the failure.
            // slither-disable-next-line unused-return
            (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signatures[i]);
            if (failure != ECDSA.RecoverError.NoError) revert InvalidSignature(i);
            uint256 place = 0;
            while (place < n && signers[place] != signer) ++place;
            if (place == n) revert ForeignSigner(i, signer);
            if (bitmap & (1 << place) == 0) {
                bitmap |= 1 << place;
                ++counted;
            }
        }
        if (counted < threshold) revert ThresholdNotReached(counted, threshold);
    }
}
