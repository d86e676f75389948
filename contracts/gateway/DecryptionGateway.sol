// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";
import {IKmsVerifier} from "../interfaces/IKmsVerifier.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Callback} from "./Callback.sol";
import {Credits} from "./Credits.sol";
import {Cleartexts} from "../libraries/Cleartexts.sol";
import {ExtraData} from "../libraries/ExtraData.sol";
import {Handles} from "../libraries/Handles.sol";
import {RequestSlot} from "./RequestSlot.sol";

/// @title Requests for decryption, their answers and their fees
contract DecryptionGateway is IDecryptionGateway, Pausable, Credits {
    using RequestSlot for RequestSlot.Slot;

    /// @notice Most gas that a callback may ask for.
    uint32 public constant MAX_CALLBACK_GAS = 10_000_000;
    /// @notice Gas kept for what follows a callback.
    uint256 public constant CALLBACK_RESERVE = 20_000;
    /// @notice Seconds after the deadline in which an answer that was already under way is still taken before a refund.
    uint64 public constant FULFIL_GRACE = 300;
    /// @notice Least time between a request and its deadline.
    uint64 public constant MIN_DEADLINE = 60;
    /// @notice Most time between a request and its deadline.
    uint64 public constant MAX_DEADLINE = 30 days;
    /// @notice Most blocks that a finality can ask for.
    uint16 public constant MAX_FINALITY_BLOCKS = 1000;
    /// @notice Finality "safe"; one above it is "finalized".
    uint16 public constant FINALITY_SAFE = 0xfffe;

    /// @inheritdoc IDecryptionGateway
    uint16 public immutable minFinality;
    /// @inheritdoc IDecryptionGateway
    address public immutable guardian;
    /// @notice The ACL.
    IAccessControl public immutable accessControl;
    /// @notice The verifier of the committee's signatures.
    IKmsVerifier public immutable kmsVerifier;

    mapping(bytes32 requestId => RequestSlot.Slot) private _slots;
    mapping(address requester => uint64) private _nonces;

    modifier onlyGuardian() {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        _;
    }

    /// @param acl the ACL.
    /// @param verifier the verifier.
    /// @param leastFinality see `minFinality`.
    /// @param guardian_ who may pause new requests.
    constructor(IAccessControl acl, IKmsVerifier verifier, uint16 leastFinality, address guardian_) {
        _requireKnownFinality(leastFinality);
        accessControl = acl;
        kmsVerifier = verifier;
        minFinality = leastFinality;
        // Zero: nobody can pause.
        // slither-disable-next-line missing-zero-check
        guardian = guardian_;
    }

    /// @inheritdoc IDecryptionGateway
    function requestDecryption(
        bytes32[] calldata handles,
        bytes4 selector,
        uint32 gasLimit,
        uint16 finality,
        uint64 deadline
    ) external payable whenNotPaused returns (bytes32 requestId) {
        Handles.checkRequest(handles);
        _checkTerms(selector, gasLimit, finality, deadline);
        bytes32 denied = accessControl.firstNotDecryptable(handles, msg.sender);
        if (denied != 0) revert DecryptionNotAllowed(denied, msg.sender);

        Request memory request = Request({
            requester: msg.sender,
            nonce: _nonces[msg.sender]++,
            handles: handles,
            selector: selector,
            gasLimit: gasLimit,
            finality: finality,
            deadline: deadline,
            contextId: kmsVerifier.currentContextId()
        });
        requestId = _id(request);
        _slots[requestId].open(deadline, msg.value);
        emit DecryptionRequested(requestId, msg.sender, request, msg.value);
    }

    /// @inheritdoc IDecryptionGateway
    function fulfill(Request calldata request, bytes calldata cleartexts, bytes calldata proof) external {
        bytes32 requestId = _id(request);
        RequestSlot.Slot storage slot = _slots[requestId];
        State state = slot.state();
        if (state == State.Fulfilled || state == State.Delivered || state == State.DeliveryFailed) {
            revert AlreadyFulfilled(requestId);
        }
        if (state != State.Open) revert WrongState(requestId, state);
        Cleartexts.check(request.handles, cleartexts);
        _requireBound(request, requestId, proof);
        bytes32 resultHash = keccak256(cleartexts);
        // The context is the request's: `_requireBound` has seen to it.
        // slither-disable-next-line unused-return
        (, uint256 signerBitmap) =
            kmsVerifier.verifyHashed(keccak256(abi.encodePacked(request.handles)), resultHash, proof);

        _credit(msg.sender, slot.fee());
        emit DecryptionFulfilled(requestId, cleartexts, signerBitmap, msg.sender);
        slot.answer(State.Fulfilled, resultHash);
        if (request.selector != 0) _deliver(slot, request, requestId, cleartexts, request.gasLimit);
    }

    /// @inheritdoc IDecryptionGateway
    function redeliver(Request calldata request, bytes calldata cleartexts, uint32 gasLimit) external {
        bytes32 requestId = _id(request);
        RequestSlot.Slot storage slot = _slots[requestId];
        if (slot.state() != State.DeliveryFailed) revert WrongState(requestId, slot.state());
        if (gasLimit < request.gasLimit) revert CallbackGasTooLow(gasLimit, request.gasLimit);
        if (!slot.answeredWith(keccak256(cleartexts))) revert CleartextsMismatch(requestId);
        _deliver(slot, request, requestId, cleartexts, gasLimit);
    }

    /// @inheritdoc IDecryptionGateway
    function cancel(Request calldata request) external {
        if (msg.sender != request.requester) revert NotRequester(msg.sender);
        (bytes32 requestId, RequestSlot.Slot storage slot) = _open(request);
        if (block.timestamp >= slot.deadline()) revert DeadlinePassed(slot.deadline());
        slot.setDeadline(uint64(block.timestamp));
        emit DeadlineShortened(requestId, uint64(block.timestamp));
    }

    /// @inheritdoc IDecryptionGateway
    function expire(Request calldata request) external {
        (bytes32 requestId, RequestSlot.Slot storage slot) = _open(request);
        uint64 from = slot.deadline() + FULFIL_GRACE;
        if (block.timestamp < from && kmsVerifier.isLive(request.contextId)) revert NotYetExpired(from);
        _credit(request.requester, slot.fee());
        slot.expire();
        emit DecryptionExpired(requestId);
    }

    /// @inheritdoc IDecryptionGateway
    function addFee(Request calldata request) external payable {
        (bytes32 requestId, RequestSlot.Slot storage slot) = _open(request);
        emit FeeAdded(requestId, slot.addFee(msg.value));
    }

    /// @inheritdoc IDecryptionGateway
    function withdraw(address to) external {
        _withdraw(to);
    }

    /// @inheritdoc IDecryptionGateway
    function pause() external onlyGuardian {
        _pause();
    }

    /// @inheritdoc IDecryptionGateway
    function unpause() external onlyGuardian {
        _unpause();
    }

    /// @inheritdoc IDecryptionGateway
    function requestIdOf(Request calldata request) external view returns (bytes32) {
        return _id(request);
    }

    /// @inheritdoc IDecryptionGateway
    function stateOf(bytes32 requestId) external view returns (State state, uint64 effectiveDeadline, uint256 fee) {
        RequestSlot.Slot storage slot = _slots[requestId];
        state = slot.state();
        if (state == State.Open) (effectiveDeadline, fee) = (slot.deadline(), slot.fee());
    }

    /// @inheritdoc IDecryptionGateway
    function creditOf(address account) external view returns (uint256) {
        return _creditOf(account);
    }

    /// @inheritdoc IDecryptionGateway
    function nonceOf(address requester) external view returns (uint64) {
        return _nonces[requester];
    }

    /// @dev Runs the callback. The state is Delivered while it runs, so that a reentrant `redeliver` finds nothing to do.
    function _deliver(
        RequestSlot.Slot storage slot,
        Request calldata request,
        bytes32 requestId,
        bytes calldata cleartexts,
        uint32 gasLimit
    ) private {
        slot.setState(State.Delivered);
        bytes memory data = abi.encodeWithSelector(request.selector, requestId, cleartexts);
        uint256 needed = (uint256(gasLimit) * 64) / 63 + CALLBACK_RESERVE;
        if (gasleft() < needed) revert InsufficientGas(gasleft(), needed);
        if (Callback.run(request.requester, gasLimit, data)) {
            emit CallbackDelivered(requestId);
        } else {
            slot.setState(State.DeliveryFailed);
            emit CallbackFailed(requestId);
        }
    }

    /// @dev The request's slot, which must be open.
    function _open(Request calldata request) private view returns (bytes32 requestId, RequestSlot.Slot storage slot) {
        requestId = _id(request);
        slot = _slots[requestId];
        if (slot.state() != State.Open) revert WrongState(requestId, slot.state());
    }

    /// @dev What a request may ask for, except its handles.
    function _checkTerms(bytes4 selector, uint32 gasLimit, uint16 finality, uint64 deadline) private view {
        _requireKnownFinality(finality);
        if (finality < minFinality) revert FinalityTooLow(finality, minFinality);
        uint64 earliest = uint64(block.timestamp) + MIN_DEADLINE;
        uint64 latest = uint64(block.timestamp) + MAX_DEADLINE;
        if (deadline < earliest || deadline > latest) revert DeadlineOutOfRange(deadline, earliest, latest);
        if (gasLimit > MAX_CALLBACK_GAS) revert CallbackGasTooHigh(gasLimit, MAX_CALLBACK_GAS);
        if (selector != 0 && msg.sender.code.length == 0) revert RequesterWithoutCode(msg.sender);
    }

    /// @dev The proof's extraData must be version 3 and name this request and its context.
    function _requireBound(Request calldata request, bytes32 requestId, bytes calldata proof) private pure {
        uint256 end = proof.length == 0 ? 0 : 1 + 65 * uint256(uint8(proof[0]));
        // A proof that is too short is the verifier's to reject.
        if (proof.length < end) return;
        ExtraData.Fields memory fields = ExtraData.parse(proof[end:]);
        if (fields.version != 3 || fields.contextId != request.contextId || fields.requestId != requestId) {
            revert ProofNotBound(requestId);
        }
    }

    /// @dev Identity of a request.
    function _id(Request memory request) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), request));
    }

    /// @dev 0…1000, safe or finalized.
    function _requireKnownFinality(uint16 finality) private pure {
        if (finality > MAX_FINALITY_BLOCKS && finality < FINALITY_SAFE) revert UnknownFinality(finality);
    }
}
