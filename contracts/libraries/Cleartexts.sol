// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Handles} from "./Handles.sol";

/// @title Format of an answer
/// @notice One 32-byte word per handle, in the request's order: what `abi.encode` makes of static values.
/// @dev The Rust module `kms_chain::cleartexts` holds the same rules; golden files bind the two.
library Cleartexts {
    /// @notice Not one word per handle.
    error InvalidCleartextsLength(uint256 length, uint256 expected);
    /// @notice The word at this place is no value of its handle's type.
    error CleartextOutOfRange(uint256 index);

    /// @notice Reverts unless `cleartexts` can answer `handles`, whose types are supported ones.
    function check(bytes32[] calldata handles, bytes calldata cleartexts) internal pure {
        if (cleartexts.length != 32 * handles.length) {
            revert InvalidCleartextsLength(cleartexts.length, 32 * handles.length);
        }
        for (uint256 i = 0; i < handles.length; ++i) {
            if (!Handles.fits(uint256(bytes32(cleartexts[32 * i:])), Handles.typeOf(handles[i]))) {
                revert CleartextOutOfRange(i);
            }
        }
    }
}
