// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title An ordered, immutable list of signers, kept as the code of a contract
/// @notice Reading n signers costs one account access instead of n storage reads. Code: STOP ‖ n words.
library SignerTable {
    /// @dev Init code that returns the bytes after itself: PUSH2 length, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN.
    uint80 private constant INIT_CODE = 0x61_0000_80_600a_3d_39_3d_f3;

    /// @notice The table could not be deployed.
    error TableNotWritten();

    /// @notice Deploys the table.
    function write(address[] memory signers) internal returns (address table) {
        uint80 length = uint80(1 + 32 * signers.length);
        bytes memory code = abi.encodePacked(INIT_CODE | (length << 56), uint8(0), signers);
        // Only assembly can create a contract from bytes.
        assembly ("memory-safe") {
            table := create(0, add(code, 0x20), mload(code))
        }
        if (table == address(0)) revert TableNotWritten();
    }

    /// @notice Reads the table of `n` signers.
    function read(address table, uint256 n) internal view returns (address[] memory signers) {
        signers = new address[](n);
        // `address.code` would copy everything twice to skip the STOP byte.
        assembly ("memory-safe") {
            extcodecopy(table, add(signers, 0x20), 1, mul(32, n))
        }
    }
}
