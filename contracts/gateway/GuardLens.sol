// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {ICiphertextRegistry} from "../interfaces/ICiphertextRegistry.sol";
import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";
import {IGuardLens} from "../interfaces/IGuardLens.sol";
import {IKeyManagement} from "../interfaces/IKeyManagement.sol";
import {IKmsVerifier} from "../interfaces/IKmsVerifier.sol";

/// @title Everything a party checks, in one `eth_call`
/// @dev Reads only. Nothing depends on it on chain.
contract GuardLens is IGuardLens {
    IAccessControl private immutable _acl;
    ICiphertextRegistry private immutable _registry;
    IKmsVerifier private immutable _verifier;
    IDecryptionGateway private immutable _gateway;
    IKeyManagement private immutable _keys;

    /// @param acl the ACL.
    /// @param registry commitments.
    /// @param verifier contexts.
    /// @param gateway requests.
    /// @param keys keys' states.
    constructor(
        IAccessControl acl,
        ICiphertextRegistry registry,
        IKmsVerifier verifier,
        IDecryptionGateway gateway,
        IKeyManagement keys
    ) {
        (_acl, _registry, _verifier, _gateway, _keys) = (acl, registry, verifier, gateway, keys);
    }

    /// @inheritdoc IGuardLens
    function viewRequest(IDecryptionGateway.Request calldata request) external view returns (RequestView memory seen) {
        // The fee is no party's business.
        // slither-disable-next-line unused-return
        (IDecryptionGateway.State state, uint64 deadline,) = _gateway.stateOf(_gateway.requestIdOf(request));
        seen.state = uint8(state);
        seen.effectiveDeadline = deadline;
        seen.blockTimestamp = uint64(block.timestamp);
        seen.blockNumber = uint64(block.number);
        seen.contextLive = _verifier.isLive(request.contextId);
        seen.currentContextId = _verifier.currentContextId();
        seen.handles = _view(request.requester, request.handles);
    }

    /// @inheritdoc IGuardLens
    function viewHandles(address account, bytes32[] calldata handles)
        external
        view
        returns (uint64, uint64, bytes32, HandleView[] memory)
    {
        return (uint64(block.timestamp), uint64(block.number), _verifier.currentContextId(), _view(account, handles));
    }

    /// @dev One view per handle.
    function _view(address account, bytes32[] calldata handles) private view returns (HandleView[] memory seen) {
        seen = new HandleView[](handles.length);
        for (uint256 i = 0; i < handles.length; ++i) {
            (bytes32 keyId, bytes32 digest) = _registry.commitmentOf(handles[i]);
            seen[i] = HandleView({
                persistAllowed: _acl.persistAllowed(handles[i], account),
                allowedForDecryption: _acl.isAllowedForDecryption(handles[i]),
                keyId: keyId,
                digest: digest,
                keyState: uint8(_keys.keyState(keyId))
            });
        }
    }
}
