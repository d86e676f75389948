// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ICiphertextRegistry} from "../interfaces/ICiphertextRegistry.sol";
import {CoprocessorQuorum} from "../compute/CoprocessorQuorum.sol";
import {Handles} from "../libraries/Handles.sol";
import {Signatures} from "../libraries/Signatures.sol";

/// @title What stands behind a handle
contract CiphertextRegistry is ICiphertextRegistry, EIP712, CoprocessorQuorum {
    /// @dev What is stored per handle.
    struct Stored {
        bytes32 keyId;
        bytes32 digest;
    }

    bytes32 private constant COMMITMENT_TYPE =
        keccak256("CiphertextCommitment(bytes32 handle,bytes32 keyId,bytes32 digest)");
    bytes32 private constant BATCH_TYPE = keccak256(
        "CommitmentBatch(CiphertextCommitment[] items)CiphertextCommitment(bytes32 handle,bytes32 keyId,bytes32 digest)"
    );

    mapping(bytes32 handle => Stored) private _commitments;

    /// @param signers the coprocessors.
    /// @param threshold how many must sign.
    constructor(address[] memory signers, uint256 threshold)
        EIP712("CiphertextRegistry", "1")
        CoprocessorQuorum(signers, threshold)
    {}

    /// @inheritdoc ICiphertextRegistry
    function commit(Commitment[] calldata items, bytes[] calldata signatures) external {
        if (items.length == 0) revert EmptyBatch();
        Signatures.requireList(batchDigest(items), signatures, getCoprocessorSigners(), getThreshold());
        for (uint256 i = 0; i < items.length; ++i) {
            Commitment calldata item = items[i];
            Handles.check(item.handle);
            if (item.keyId == 0 || item.digest == 0) revert ZeroCommitment(item.handle);
            Stored storage stored = _commitments[item.handle];
            if (stored.keyId == 0) {
                (stored.keyId, stored.digest) = (item.keyId, item.digest);
                emit CiphertextCommitted(item.handle, item.keyId, item.digest);
            } else if (stored.keyId != item.keyId || stored.digest != item.digest) {
                revert CommitmentConflict(item.handle, stored.keyId, stored.digest);
            }
        }
    }

    /// @inheritdoc ICiphertextRegistry
    function commitmentOf(bytes32 handle) external view returns (bytes32 keyId, bytes32 digest) {
        Stored storage stored = _commitments[handle];
        return (stored.keyId, stored.digest);
    }

    /// @inheritdoc ICiphertextRegistry
    function batchDigest(Commitment[] calldata items) public view returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            hashes[i] = keccak256(abi.encode(COMMITMENT_TYPE, items[i]));
        }
        return _hashTypedDataV4(keccak256(abi.encode(BATCH_TYPE, keccak256(abi.encodePacked(hashes)))));
    }

    /// @inheritdoc ICiphertextRegistry
    function getCoprocessorSigners()
        public
        view
        override(ICiphertextRegistry, CoprocessorQuorum)
        returns (address[] memory)
    {
        return super.getCoprocessorSigners();
    }

    /// @inheritdoc ICiphertextRegistry
    function getThreshold() public view override(ICiphertextRegistry, CoprocessorQuorum) returns (uint256) {
        return super.getThreshold();
    }
}
