// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What a signature is bound to
/// @notice empty or 0x00: current context. 0x01 ‖ context. 0x02 ‖ context ‖ epoch. 0x03 ‖ context ‖ epoch ‖ requestId. Lengths are exact.
/// @dev The Rust module `kms_chain::extra_data` holds the same rules; golden files bind the two.
library ExtraData {
    /// @notice A parsed extraData; fields that the version does not carry are zero.
    struct Fields {
        uint8 version;
        bytes32 contextId;
        bytes32 epochId;
        bytes32 requestId;
    }

    /// @notice No such version.
    error UnknownExtraDataVersion(uint8 version);
    /// @notice The version has another length.
    error InvalidExtraDataLength(uint8 version, uint256 length);

    /// @notice Parses, or reverts.
    function parse(bytes calldata data) internal pure returns (Fields memory fields) {
        if (data.length == 0) return fields;
        uint8 version = uint8(data[0]);
        if (version > 3) revert UnknownExtraDataVersion(version);
        if (data.length != 1 + 32 * uint256(version)) revert InvalidExtraDataLength(version, data.length);
        fields.version = version;
        if (version >= 1) fields.contextId = bytes32(data[1:33]);
        if (version >= 2) fields.epochId = bytes32(data[33:65]);
        if (version == 3) fields.requestId = bytes32(data[65:97]);
    }
}
