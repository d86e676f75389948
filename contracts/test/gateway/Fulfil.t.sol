// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {IKmsVerifier} from "../../interfaces/IKmsVerifier.sol";
import {Cleartexts} from "../../libraries/Cleartexts.sol";
import {ExtraData} from "../../libraries/ExtraData.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {GatewayTest} from "../support/GatewayTest.sol";

/// @dev What counts as an answer.
contract FulfilTest is GatewayTest {
    IDecryptionGateway.Request private request;
    bytes32 private requestId;

    function setUp() public override {
        super.setUp();
        (request, requestId) = _ask();
    }

    function _rejected(bytes memory proof, bytes memory why) private {
        vm.expectRevert(why);
        gateway.fulfill(request, cleartexts, proof);
    }

    function test_answer_is_recorded_paid_and_delivered() public {
        bytes memory proof = _proofFor(request, cleartexts);
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.DecryptionFulfilled(requestId, cleartexts, 7, RELAYER);
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.CallbackDelivered(requestId);
        vm.prank(RELAYER);
        gateway.fulfill(request, cleartexts, proof);
        assertEq(dapp.calls(), 1);
        assertEq(gateway.creditOf(RELAYER), FEE);
        (IDecryptionGateway.State state, uint64 deadline, uint256 fee) = gateway.stateOf(requestId);
        assertEq(uint8(state), uint8(IDecryptionGateway.State.Delivered));
        assertEq(deadline, 0);
        assertEq(fee, 0);
    }

    function test_without_a_callback_the_state_is_fulfilled() public {
        (IDecryptionGateway.Request memory quiet, bytes32 id) = _ask(bytes4(0));
        _fulfill(quiet);
        _assertState(id, IDecryptionGateway.State.Fulfilled);
        assertEq(dapp.calls(), 0);
    }

    function test_twice_is_rejected_before_anything_else() public {
        _fulfill(request);
        _rejected("", abi.encodeWithSelector(IDecryptionGateway.AlreadyFulfilled.selector, requestId));
    }

    function test_unknown_or_altered_request() public {
        bytes memory proof = _proofFor(request, cleartexts);
        request.gasLimit -= 1;
        bytes32 altered = gateway.requestIdOf(request);
        _rejected(
            proof,
            abi.encodeWithSelector(IDecryptionGateway.WrongState.selector, altered, IDecryptionGateway.State.None)
        );
    }

    function test_cleartexts_length() public {
        bytes memory proof = _proofFor(request, cleartexts);
        cleartexts = abi.encodePacked(cleartexts, uint8(0));
        _rejected(proof, abi.encodeWithSelector(Cleartexts.InvalidCleartextsLength.selector, 33, 32));
        cleartexts = "";
        _rejected(proof, abi.encodeWithSelector(Cleartexts.InvalidCleartextsLength.selector, 0, 32));
    }

    /// @dev Not even the whole committee can answer with what no value of the type is.
    function test_cleartext_out_of_its_type() public {
        cleartexts = abi.encode(uint256(1) << 64);
        _rejected(_proofFor(request, cleartexts), abi.encodeWithSelector(Cleartexts.CleartextOutOfRange.selector, 0));
    }

    function test_altered_cleartext() public {
        bytes memory proof = _proofFor(request, cleartexts);
        cleartexts = abi.encode(uint256(43));
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        gateway.fulfill(request, cleartexts, proof);
    }

    function test_altered_signature() public {
        bytes memory proof = _proofFor(request, cleartexts);
        // A bit of s: somebody else's signature now.
        proof[40] ^= 0x01;
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        gateway.fulfill(request, cleartexts, proof);
    }

    function test_malformed_proofs() public {
        bytes memory extraData = _v3(request.contextId, requestId);
        _rejected("", abi.encodeWithSelector(IDecryptionGateway.ProofNotBound.selector, requestId));
        _rejected(hex"05", abi.encodeWithSelector(IKmsVerifier.TruncatedProof.selector, 1, 326));
        _rejected(
            abi.encodePacked(uint8(0), extraData), abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 0, 3)
        );
        bytes memory two = _proof(request.handles, cleartexts, extraData, 2);
        _rejected(two, abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 2, 3));
        bytes memory trailing = bytes.concat(_proofFor(request, cleartexts), hex"00");
        _rejected(trailing, abi.encodeWithSelector(ExtraData.InvalidExtraDataLength.selector, 3, 98));
    }

    /// @dev A proof that was made for a pull, or for another request, answers none.
    function test_only_a_proof_bound_to_this_request_answers_it() public {
        bytes memory why = abi.encodeWithSelector(IDecryptionGateway.ProofNotBound.selector, requestId);
        bytes[5] memory others = [
            bytes(""),
            abi.encodePacked(uint8(1), request.contextId),
            abi.encodePacked(uint8(2), request.contextId, EPOCH),
            _v3(request.contextId, keccak256("another request")),
            _v3(keccak256("another context"), requestId)
        ];
        for (uint256 i = 0; i < others.length; ++i) {
            _rejected(_proof(request.handles, cleartexts, others[i], 3), why);
        }
    }

    function test_old_context_still_answers_its_requests_and_only_these() public {
        (bytes32 next, uint256[] memory secrets) = _succeed("next");
        // The new committee may not answer in the old one's place.
        uint256[] memory old = partyKeys;
        partyKeys = secrets;
        bytes memory foreign = _proofFor(request, cleartexts);
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        gateway.fulfill(request, cleartexts, foreign);
        partyKeys = old;
        _fulfill(request);

        (IDecryptionGateway.Request memory later, bytes32 laterId) = _ask();
        assertEq(later.contextId, next);
        bytes memory stale = _proof(later.handles, cleartexts, _v3(request.contextId, laterId), 3);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.ProofNotBound.selector, laterId));
        gateway.fulfill(later, cleartexts, stale);
    }

    function test_proof_of_one_request_does_not_fit_an_equal_one() public {
        (IDecryptionGateway.Request memory twin, bytes32 twinId) = _ask();
        bytes memory proof = _proofFor(request, cleartexts);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.ProofNotBound.selector, twinId));
        gateway.fulfill(twin, cleartexts, proof);
    }

    function test_answer_past_the_deadline_is_taken_while_open() public {
        vm.warp(request.deadline + 30 days);
        _fulfill(request);
        _assertState(requestId, IDecryptionGateway.State.Delivered);
    }
}
