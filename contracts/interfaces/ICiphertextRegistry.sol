// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title What stands behind a handle
/// @notice Handle → (key, SHA-256 of the squashed ciphertext object), committed once by a quorum of coprocessors.
interface ICiphertextRegistry {
    /// @notice One commitment, also the EIP-712 type `CiphertextCommitment(bytes32 handle,bytes32 keyId,bytes32 digest)`.
    struct Commitment {
        bytes32 handle;
        bytes32 keyId;
        bytes32 digest;
    }

    /// @notice `handle` now stands for the object with this digest, under this key. Final.
    event CiphertextCommitted(bytes32 indexed handle, bytes32 indexed keyId, bytes32 digest);

    /// @notice The batch is empty.
    error EmptyBatch();
    /// @notice The handle has another commitment already.
    error CommitmentConflict(bytes32 handle, bytes32 keyId, bytes32 digest);
    /// @notice Key id and digest must not be zero.
    error ZeroCommitment(bytes32 handle);

    /// @notice Commits a batch; anyone may submit it. An equal commitment is skipped, a different one reverts.
    /// @param signatures EIP-712 signatures (r ‖ s ‖ v) of a quorum of coprocessors over `CommitmentBatch(CiphertextCommitment[] items)`.
    function commit(Commitment[] calldata items, bytes[] calldata signatures) external;

    /// @notice The commitment of a handle; zeros when there is none.
    function commitmentOf(bytes32 handle) external view returns (bytes32 keyId, bytes32 digest);

    /// @notice The digest that a batch's signers sign.
    function batchDigest(Commitment[] calldata items) external view returns (bytes32);

    /// @notice The coprocessors.
    function getCoprocessorSigners() external view returns (address[] memory);

    /// @notice How many coprocessors must sign.
    function getThreshold() external view returns (uint256);
}
