// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FHE, externalEbool, euint64} from "@fhevm/solidity/lib/FHE.sol";
import {CoprocessorConfig} from "@fhevm/solidity/lib/Impl.sol";
import {EcosystemVote} from "../../examples/EcosystemVote.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {KmsTest} from "../support/KmsTest.sol";

/// @dev The view variant of the ecosystem's check, which does everything itself from the verifier's views.
contract EcosystemChecker {
    constructor(CoprocessorConfig memory config) {
        FHE.setCoprocessor(config);
    }

    function isValid(bytes32[] memory handles, bytes memory cleartexts, bytes memory proof)
        external
        view
        returns (bool)
    {
        return FHE.isPublicDecryptionResultValid(handles, cleartexts, proof);
    }
}

/// @dev A contract written against the npm package runs on our addresses.
contract EcosystemVoteTest is KmsTest {
    EcosystemVote private vote;

    function setUp() public override {
        super.setUp();
        vote = new EcosystemVote(_config());
    }

    function _config() private view returns (CoprocessorConfig memory) {
        return CoprocessorConfig({
            ACLAddress: address(acl), CoprocessorAddress: address(executor), KMSVerifierAddress: address(verifier)
        });
    }

    function _cast(uint256 voter) private {
        address user = vm.addr(1000 + voter);
        bytes32[] memory ballot = _one(_inputHandle(vm.toString(voter), 0, 0));
        bytes memory proof = _inputProof(ballot, user, address(vote), 2);
        vm.prank(user);
        vote.vote(externalEbool.wrap(ballot[0]), proof);
    }

    function test_vote_close_and_resolve_by_proof() public {
        _cast(1);
        _cast(2);
        bytes32[] memory tally = _one(euint64.unwrap(vote.tally()));
        assertTrue(acl.persistAllowed(tally[0], address(vote)));
        assertFalse(acl.isAllowedForDecryption(tally[0]));
        vote.close();
        assertTrue(acl.isAllowedForDecryption(tally[0]));

        bytes memory extraData = abi.encodePacked(uint8(1), verifier.currentContextId());
        bytes memory proof = _proof(tally, abi.encode(2), extraData, 3);
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        vote.resolve(abi.encode(3), proof);
        vm.expectEmit(address(vote));
        emit FHE.PublicDecryptionVerified(tally, abi.encode(2));
        vote.resolve(abi.encode(2), proof);
        assertTrue(vote.decided());
        assertEq(vote.result(), 2);
    }

    function test_handle_without_proof_needs_a_right_of_the_sender() public {
        bytes32 foreign = _handle("foreign", 0);
        vm.expectRevert(abi.encodeWithSelector(FHE.SenderNotAllowedToUseHandle.selector, foreign, address(this)));
        vote.vote(externalEbool.wrap(foreign), "");
    }

    function test_view_variant_agrees() public {
        EcosystemChecker checker = new EcosystemChecker(_config());
        bytes32[] memory handles = _one(_handle("x", 5));
        bytes memory extraData = abi.encodePacked(uint8(1), verifier.currentContextId());
        assertTrue(checker.isValid(handles, abi.encode(1), _proof(handles, abi.encode(1), extraData, 3)));
        assertTrue(checker.isValid(handles, abi.encode(1), _proof(handles, abi.encode(1), "", 3)));
        bytes memory few = _proof(handles, abi.encode(1), extraData, 2);
        vm.expectRevert(abi.encodeWithSelector(FHE.KMSSignatureThresholdNotReached.selector, 2));
        checker.isValid(handles, abi.encode(1), few);
    }
}
