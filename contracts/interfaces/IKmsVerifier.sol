// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Committees and what they signed
/// @notice A context is an immutable committee: contextId = keccak256(abi.encode(previous, signers, t, threshold, salt)).
interface IKmsVerifier {
    /// @notice A context as stored.
    struct ContextView {
        bytes32 contextId;
        address[] signers;
        uint256 t;
        uint256 threshold;
        bool destroyed;
    }

    /// @notice A context was named; it is the current one from now on.
    event ContextCreated(
        bytes32 indexed contextId,
        bytes32 indexed previous,
        address[] signers,
        uint256 t,
        uint256 threshold,
        bytes32 salt
    );
    /// @notice A context was destroyed: nothing it signed verifies any more.
    event ContextDestroyed(bytes32 indexed contextId, bytes32 indexed by);

    /// @notice Not 1 ≤ n ≤ 255 and n ≥ 3t + 1.
    error InvalidCommitteeSize(uint256 n, uint256 t);
    /// @notice Not t + 1 ≤ threshold ≤ n − t.
    error InvalidThreshold(uint256 threshold, uint256 n, uint256 t);
    /// @notice The decryption domain names no contract.
    error ZeroDomainContract();
    /// @notice The context exists already.
    error ContextExists(bytes32 contextId);
    /// @notice No such context.
    error UnknownContext(bytes32 contextId);
    /// @notice The context was destroyed.
    error DestroyedContext(bytes32 contextId);
    /// @notice The current context cannot destroy itself.
    error CurrentContext(bytes32 contextId);
    /// @notice The proof is shorter than its own count says, or empty.
    error TruncatedProof(uint256 length, uint256 expected);

    /// @notice Names the one successor of the current context.
    /// @dev Both sides sign `ContextSuccession(bytes32 previous,address[] signers,uint256 t,uint256 threshold,bytes32 salt)` in the
    /// domain {"KmsVerifier","1"} without chain, so that anyone can mirror the succession to every host chain.
    /// @param currentSignatures n − t of the current context.
    /// @param successorSignatures n − t of the successor: a typo among its signers cannot pass.
    function nameSuccessor(
        address[] calldata signers,
        uint256 t,
        uint256 threshold,
        bytes32 salt,
        bytes[] calldata currentSignatures,
        bytes[] calldata successorSignatures
    ) external returns (bytes32 contextId);

    /// @notice Destroys another context, by n − t signatures of the current one over
    /// `ContextDestruction(bytes32 contextId,bytes32 destroyed)` in the same domain.
    function destroyContext(bytes32 destroyed, bytes[] calldata signatures) external;

    /// @notice Verifies a public decryption: true, or a revert that says why not.
    /// @param decryptionProof uint8 count ‖ count × (r ‖ s ‖ v) ‖ extraData.
    function verifyDecryptionEIP712KMSSignatures(
        bytes32[] calldata handlesList,
        bytes calldata decryptedResult,
        bytes calldata decryptionProof
    ) external view returns (bool);

    /// @notice The same for one who has hashed the long parts already.
    /// @param handlesHash keccak256 of the packed handles.
    /// @param resultHash keccak256 of the cleartexts.
    /// @return contextId the context that signed.
    /// @return signerBitmap bit i is set when the signer at place i of the context was counted.
    function verifyHashed(bytes32 handlesHash, bytes32 resultHash, bytes calldata decryptionProof)
        external
        view
        returns (bytes32 contextId, uint256 signerBitmap);

    /// @notice Reverts unless `threshold` signers of the live context `contextId` signed `digest`. For other contracts of this system.
    function requireQuorum(bytes32 contextId, bytes32 digest, bytes[] calldata signatures) external view;

    /// @notice The digest that parties sign for a public decryption. `extraData` as in the proof: 0x00 is signed as empty.
    function decryptionDigest(bytes32[] calldata handlesList, bytes calldata decryptedResult, bytes calldata extraData)
        external
        view
        returns (bytes32);

    /// @notice The digest that both committees sign for `nameSuccessor`.
    function successionDigest(bytes32 previous, address[] calldata signers, uint256 t, uint256 threshold, bytes32 salt)
        external
        pure
        returns (bytes32);

    /// @notice The digest that the current committee signs for `destroyContext`.
    function destructionDigest(bytes32 contextId, bytes32 destroyed) external pure returns (bytes32);

    /// @notice The context that signs now.
    function currentContextId() external view returns (bytes32);

    /// @notice A context, also a destroyed one; reverts when it never existed.
    function contextOf(bytes32 contextId) external view returns (ContextView memory);

    /// @notice Whether the context exists and is not destroyed.
    function isLive(bytes32 contextId) external view returns (bool);

    /// @notice The domain that parties sign decryptions in: equal on all host chains.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );

    /// @notice Signers and threshold of the live context that `extraData` names.
    function getContextSignersAndThresholdFromExtraData(bytes calldata extraData)
        external
        view
        returns (address[] memory signers, uint256 threshold);

    /// @notice Signers of the current context.
    function getKmsSigners() external view returns (address[] memory);

    /// @notice Threshold of the current context.
    function getThreshold() external view returns (uint256);
}
