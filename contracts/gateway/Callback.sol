// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @title A call to a stranger
/// @notice Never reverts, forwards `gasLimit` at most, copies no return data: neither a revert, nor burnt gas, nor a return bomb reaches
/// the caller.
/// @dev Whether `gasLimit` is really available is the caller's to check.
library Callback {
    /// @notice Calls `target`; an account without code counts as failed.
    function run(address target, uint256 gasLimit, bytes memory data) internal returns (bool success) {
        if (target.code.length == 0) return false;
        // A high-level call would copy the return data into our memory, at our cost.
        assembly ("memory-safe") {
            success := call(gasLimit, target, 0, add(data, 0x20), mload(data), 0, 0)
        }
    }
}
