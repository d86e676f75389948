// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {ICiphertextRegistry} from "../interfaces/ICiphertextRegistry.sol";
import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";
import {IGuardLens} from "../interfaces/IGuardLens.sol";
import {IKeyManagement} from "../interfaces/IKeyManagement.sol";
import {IKmsVerifier} from "../interfaces/IKmsVerifier.sol";
import {Handles} from "../libraries/Handles.sol";

/// @title Everything a party checks, in one `eth_call`
/// @dev Reads only. Nothing depends on it on chain.
contract GuardLens is IGuardLens {
    /// @inheritdoc IGuardLens
    uint256 public constant SIGNATURE_GAS = 2_000_000;
    /// @inheritdoc IGuardLens
    /// @dev A handle counts at least two bits.
    uint256 public constant MAX_PAIRS = Handles.MAX_REQUEST_BITS / 2;
    /// @inheritdoc IGuardLens
    uint256 public constant MAX_SIGNATURE = 4096;

    /// @dev What has to be left so that the callee gets all of SIGNATURE_GAS: a call passes on 63 of 64 parts, and has a price.
    uint256 private constant GAS_TO_ASK = SIGNATURE_GAS * 64 / 63 + 10_000;

    // Values of `UserDecryptionView.signature`.
    uint8 private constant NOT_ASKED = 0;
    uint8 private constant ACCEPTED = 1;
    uint8 private constant OTHER_ANSWER = 2;
    uint8 private constant REVERTED = 3;
    uint8 private constant OTHER_SIZE = 4;
    uint8 private constant NO_CONTRACT = 5;
    uint8 private constant TOO_LITTLE_GAS = 6;

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

    /// @inheritdoc IGuardLens
    function viewUserDecryption(UserDecryptionQuery calldata query)
        external
        view
        returns (UserDecryptionView memory seen)
    {
        if (query.pairs.length > MAX_PAIRS) revert TooManyPairs(query.pairs.length, MAX_PAIRS);
        // First, while there is gas: what the callee gets must not depend on what the rest costs.
        if (query.askSigner) seen.signature = _ask(query.signer, query.permitDigest, query.signature);
        seen.blockTimestamp = uint64(block.timestamp);
        seen.blockNumber = uint64(block.number);
        seen.currentContextId = _verifier.currentContextId();
        seen.contextLive = _verifier.isLive(query.contextId);
        seen.signaturesInvalidBefore = _acl.decryptionSignaturesInvalidBefore(query.signer);
        seen.pairs = new PairView[](query.pairs.length);
        for (uint256 i = 0; i < query.pairs.length; ++i) {
            seen.pairs[i] = _view(query.user, query.signer, query.pairs[i]);
        }
    }

    /// @dev One pair.
    function _view(address user, address signer, HandleContractPair calldata pair)
        private
        view
        returns (PairView memory seen)
    {
        seen.userAllowed = _acl.persistAllowed(pair.handle, user);
        seen.contractAllowed = _acl.persistAllowed(pair.handle, pair.contractAddress);
        seen.delegatedUntil =
            user == signer ? type(uint64).max : _acl.userDecryptionDelegatedUntil(user, signer, pair.contractAddress);
        seen.delegated = block.timestamp < seen.delegatedUntil;
        (seen.keyId, seen.digest) = _registry.commitmentOf(pair.handle);
        seen.keyState = uint8(_keys.keyState(seen.keyId));
    }

    /// @dev Asks a contract whether a signature is its own. It may be anybody's contract: it gets a fixed amount of gas, can change
    /// nothing, and no more than one word of its answer is looked at.
    function _ask(address signer, bytes32 permitDigest, bytes calldata signature) private view returns (uint8) {
        if (signature.length > MAX_SIGNATURE) revert SignatureTooLong(signature.length, MAX_SIGNATURE);
        if (signer.code.length == 0) return NO_CONTRACT;
        bytes memory question = abi.encodeCall(IERC1271.isValidSignature, (permitDigest, signature));
        if (gasleft() < GAS_TO_ASK) return TOO_LITTLE_GAS;
        bool done;
        uint256 size;
        bytes32 answer;
        assembly ("memory-safe") {
            mstore(0, 0)
            done := staticcall(SIGNATURE_GAS, signer, add(question, 0x20), mload(question), 0, 0x20)
            size := returndatasize()
            answer := mload(0)
        }
        if (!done) return REVERTED;
        if (size != 32) return OTHER_SIZE;
        return answer == bytes32(IERC1271.isValidSignature.selector) ? ACCEPTED : OTHER_ANSWER;
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
