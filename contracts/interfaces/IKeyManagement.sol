// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Keys and their states
/// @notice A key is registered by a quorum of the committee that made it. States follow NIST SP 800-57.
interface IKeyManagement {
    /// @notice Digest of one public part. `keyType`: 0 server key (all public keys in one set), 1 compact public key, 2 CRS,
    /// 3 squashing key where it is a file of its own.
    struct KeyDigest {
        uint8 keyType;
        bytes digest;
    }

    /// @notice State of a key.
    enum KeyState {
        None,
        PreActive,
        Active,
        Suspended,
        Deactivated,
        Compromised,
        Destroyed
    }

    /// @notice A key was registered; it is active.
    event KeyRegistered(bytes32 indexed keyId, bytes32 indexed contextId, bytes32 epochId, KeyDigest[] digests);
    /// @notice A key changed its state.
    event KeyStateChanged(bytes32 indexed keyId, KeyState state);

    /// @notice The key is registered already, or its id is zero.
    error InvalidKeyId(uint256 keyId);
    /// @notice Digests must be of known types, in rising order, 32 bytes each, at least one.
    error InvalidKeyDigest(uint256 index);
    /// @notice extraData must name context and epoch (version 2).
    error ExtraDataNotEpochal();
    /// @notice Only the current context registers keys.
    error NotCurrentContext(bytes32 contextId, bytes32 current);

    /// @notice Registers a key; anyone may submit it. A key that was active before is deactivated (it still decrypts).
    /// @param extraData version 2: names context and epoch.
    /// @param signatures quorum of that context, which must be the current one, over `KeygenVerification`.
    function registerKey(
        uint256 prepKeygenId,
        uint256 keyId,
        KeyDigest[] calldata digests,
        bytes calldata extraData,
        bytes[] calldata signatures
    ) external;

    /// @notice The digest that parties sign for `registerKey`.
    function keygenDigest(uint256 prepKeygenId, uint256 keyId, KeyDigest[] calldata digests, bytes calldata extraData)
        external
        view
        returns (bytes32);

    /// @notice State of a key.
    function keyState(bytes32 keyId) external view returns (KeyState);

    /// @notice The active key; zeros when there is none.
    function activeKey() external view returns (bytes32 keyId, bytes32 contextId, bytes32 epochId);

    /// @notice A key, whole.
    function keyOf(bytes32 keyId)
        external
        view
        returns (KeyState state, bytes32 contextId, bytes32 epochId, KeyDigest[] memory digests);
}
