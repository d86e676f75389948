// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ConfidentialVote} from "../../examples/ConfidentialVote.sol";
import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {IFheExecutor} from "../../interfaces/IFheExecutor.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {PlainCoprocessor} from "../support/PlainCoprocessor.sol";

/// @dev The example vote, with the coprocessor and the parties played by the test.
contract ConfidentialVoteTest is PlainCoprocessor {
    ConfidentialVote private vote;

    function setUp() public override {
        super.setUp();
        vote = new ConfidentialVote(executor, gateway);
        _follow(0);
        vm.deal(address(this), 10 ether);
    }

    function _cast(uint256 voter, uint256 value) private {
        address user = vm.addr(1000 + voter);
        bytes32[] memory ballot = _one(_inputHandle(string.concat("ballot", vm.toString(voter)), 0, 0));
        bytes memory proof = _inputProof(ballot, user, address(vote), 2);
        vm.prank(user);
        vote.vote(ballot[0], proof);
        _follow(value);
    }

    function _close() private returns (IDecryptionGateway.Request memory request) {
        request = IDecryptionGateway.Request({
            requester: address(vote),
            nonce: gateway.nonceOf(address(vote)),
            handles: _one(vote.tally()),
            selector: vote.onDecrypted.selector,
            gasLimit: 100_000,
            finality: 1,
            deadline: uint64(block.timestamp + 1 hours),
            contextId: verifier.currentContextId()
        });
        vote.close{value: 1 ether}(1, request.deadline);
        assertEq(vote.requestId(), gateway.requestIdOf(request));
    }

    function test_votes_are_tallied_and_decrypted() public {
        _cast(1, 1);
        _cast(2, 0);
        _cast(3, 3);
        _cast(4, 1);
        IDecryptionGateway.Request memory request = _close();
        bytes memory cleartexts = abi.encode(plain[vote.tally()]);
        gateway.fulfill(request, cleartexts, _proofFor(request, cleartexts));
        assertTrue(vote.decided());
        assertEq(vote.result(), 3, "a vote of 3 counts as 1");
        assertEq(vote.ballots(), 4);
    }

    function test_one_ballot_each_and_none_after_closing() public {
        _cast(1, 1);
        address user = vm.addr(1001);
        vm.prank(user);
        vm.expectRevert(abi.encodeWithSelector(ConfidentialVote.AlreadyVoted.selector, user));
        vote.vote(0, "");
        _close();
        vm.expectRevert(ConfidentialVote.Closed.selector);
        vote.vote(0, "");
        vm.expectRevert(ConfidentialVote.Closed.selector);
        vote.close(1, uint64(block.timestamp + 1 hours));
    }

    function test_a_copied_ballot_is_worth_nothing() public {
        address user = vm.addr(1001);
        bytes32[] memory ballot = _one(_inputHandle("ballot", 0, 0));
        bytes memory proof = _inputProof(ballot, user, address(vote), 2);
        vm.prank(address(0xc0b1));
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        vote.vote(ballot[0], proof);
    }

    function test_a_ballot_of_another_type() public {
        address user = vm.addr(1001);
        bytes32[] memory ballot = _one(_inputHandle("ballot", 0, 5));
        bytes memory proof = _inputProof(ballot, user, address(vote), 2);
        vm.prank(user);
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.InputTypeMismatch.selector, 0, 5));
        vote.vote(ballot[0], proof);
    }

    function test_only_the_owner_closes_and_only_the_gateway_decides() public {
        vm.prank(address(0xbad));
        vm.expectRevert(abi.encodeWithSelector(ConfidentialVote.NotOwner.selector, address(0xbad)));
        vote.close(1, uint64(block.timestamp + 1 hours));
        _cast(1, 1);
        IDecryptionGateway.Request memory request = _close();
        bytes32 id = gateway.requestIdOf(request);
        vm.expectRevert(abi.encodeWithSelector(ConfidentialVote.UnexpectedCallback.selector, address(this), id));
        vote.onDecrypted(id, abi.encode(99));
    }

    function test_an_expired_request_can_be_asked_again_and_its_fee_comes_back() public {
        _cast(1, 1);
        IDecryptionGateway.Request memory request = _close();
        vm.warp(request.deadline + 300);
        gateway.expire(request);
        vote.reclaim(address(0xcafe));
        assertEq(address(0xcafe).balance, 1 ether);
        IDecryptionGateway.Request memory again = _close();
        gateway.fulfill(again, abi.encode(1), _proofFor(again, abi.encode(1)));
        assertEq(vote.result(), 1);
    }
}
