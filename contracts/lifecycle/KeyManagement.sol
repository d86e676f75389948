// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IKeyManagement} from "../interfaces/IKeyManagement.sol";
import {IKmsVerifier} from "../interfaces/IKmsVerifier.sol";
import {ExtraData} from "../libraries/ExtraData.sol";

/// @title Keys and their states
/// @dev No owner: a key comes in by the committee's signatures only.
contract KeyManagement is IKeyManagement, EIP712 {
    /// @dev A key as stored.
    struct Key {
        KeyState state;
        bytes32 contextId;
        bytes32 epochId;
        KeyDigest[] digests;
    }

    bytes32 private constant DIGEST_TYPE = keccak256("KeyDigest(uint8 keyType,bytes digest)");
    bytes32 private constant KEYGEN_TYPE = keccak256(
        "KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)KeyDigest(uint8 keyType,bytes digest)"
    );
    uint8 private constant LAST_KEY_TYPE = 3;

    IKmsVerifier private immutable _verifier;
    bytes32 private _activeKeyId;
    mapping(bytes32 keyId => Key) private _keys;

    /// @param verifier knows the committees.
    constructor(IKmsVerifier verifier) EIP712("KeyManagement", "1") {
        _verifier = verifier;
    }

    /// @inheritdoc IKeyManagement
    function registerKey(
        uint256 prepKeygenId,
        uint256 keyId,
        KeyDigest[] calldata digests,
        bytes calldata extraData,
        bytes[] calldata signatures
    ) external {
        ExtraData.Fields memory fields = ExtraData.parse(extraData);
        if (fields.version != 2) revert ExtraDataNotEpochal();
        bytes32 current = _verifier.currentContextId();
        if (fields.contextId != current) revert NotCurrentContext(fields.contextId, current);
        _verifier.requireQuorum(current, keygenDigest(prepKeygenId, keyId, digests, extraData), signatures);
        _register(bytes32(keyId), fields, digests);
    }

    /// @inheritdoc IKeyManagement
    function keyState(bytes32 keyId) external view returns (KeyState) {
        return _keys[keyId].state;
    }

    /// @inheritdoc IKeyManagement
    function activeKey() external view returns (bytes32 keyId, bytes32 contextId, bytes32 epochId) {
        keyId = _activeKeyId;
        Key storage key = _keys[keyId];
        return (keyId, key.contextId, key.epochId);
    }

    /// @inheritdoc IKeyManagement
    function keyOf(bytes32 keyId)
        external
        view
        returns (KeyState state, bytes32 contextId, bytes32 epochId, KeyDigest[] memory digests)
    {
        Key storage key = _keys[keyId];
        return (key.state, key.contextId, key.epochId, key.digests);
    }

    /// @inheritdoc IKeyManagement
    function keygenDigest(uint256 prepKeygenId, uint256 keyId, KeyDigest[] calldata digests, bytes calldata extraData)
        public
        view
        returns (bytes32)
    {
        bytes32[] memory hashes = new bytes32[](digests.length);
        for (uint256 i = 0; i < digests.length; ++i) {
            hashes[i] = keccak256(abi.encode(DIGEST_TYPE, digests[i].keyType, keccak256(digests[i].digest)));
        }
        return _hashTypedDataV4(
            keccak256(
                abi.encode(KEYGEN_TYPE, prepKeygenId, keyId, keccak256(abi.encodePacked(hashes)), keccak256(extraData))
            )
        );
    }

    /// @dev Stores a key as the active one; the one before is deactivated.
    function _register(bytes32 keyId, ExtraData.Fields memory fields, KeyDigest[] calldata digests) private {
        Key storage key = _keys[keyId];
        if (keyId == 0 || key.state != KeyState.None) revert InvalidKeyId(uint256(keyId));
        if (digests.length == 0) revert InvalidKeyDigest(0);
        for (uint256 i = 0; i < digests.length; ++i) {
            bool rising = i == 0 || digests[i].keyType > digests[i - 1].keyType;
            if (!rising || digests[i].keyType > LAST_KEY_TYPE || digests[i].digest.length != 32) {
                revert InvalidKeyDigest(i);
            }
            key.digests.push(digests[i]);
        }
        (key.state, key.contextId, key.epochId) = (KeyState.Active, fields.contextId, fields.epochId);
        bytes32 before = _activeKeyId;
        if (before != 0) {
            _keys[before].state = KeyState.Deactivated;
            emit KeyStateChanged(before, KeyState.Deactivated);
        }
        _activeKeyId = keyId;
        emit KeyRegistered(keyId, fields.contextId, fields.epochId, digests);
    }
}
