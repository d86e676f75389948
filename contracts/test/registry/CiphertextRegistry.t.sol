// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KmsTest} from "../support/KmsTest.sol";
import {ICiphertextRegistry} from "../../interfaces/ICiphertextRegistry.sol";
import {CoprocessorQuorum} from "../../compute/CoprocessorQuorum.sol";
import {CiphertextRegistry} from "../../registry/CiphertextRegistry.sol";
import {Committee} from "../../libraries/Committee.sol";
import {Handles} from "../../libraries/Handles.sol";
import {Signatures} from "../../libraries/Signatures.sol";

contract CiphertextRegistryTest is KmsTest {
    bytes32 private constant KEY = keccak256("key");
    bytes32 private constant DIGEST = keccak256("object");
    ICiphertextRegistry.Commitment[] private items;

    function setUp() public override {
        super.setUp();
        items.push(ICiphertextRegistry.Commitment(_handle("a", 5), KEY, DIGEST));
        items.push(ICiphertextRegistry.Commitment(_handle("b", 0), KEY, keccak256("other")));
    }

    function _signed(uint256 count) private view returns (bytes[] memory) {
        return _signList(coprocessorKeys, count, _batchDigest(items));
    }

    function test_quorum_commits_and_anyone_submits() public {
        assertEq(registry.batchDigest(items), _batchDigest(items));
        bytes[] memory signatures = _signed(2);
        vm.expectEmit(address(registry));
        emit ICiphertextRegistry.CiphertextCommitted(items[1].handle, KEY, items[1].digest);
        vm.prank(address(0xabc));
        registry.commit(items, signatures);
        (bytes32 keyId, bytes32 digest) = registry.commitmentOf(items[0].handle);
        assertEq(keyId, KEY);
        assertEq(digest, DIGEST);
    }

    function test_equal_commitment_is_skipped_a_different_one_reverts() public {
        registry.commit(items, _signed(2));
        vm.recordLogs();
        registry.commit(items, _signed(3));
        assertEq(vm.getRecordedLogs().length, 0);

        items[1].digest = keccak256("third");
        bytes[] memory signatures = _signed(2);
        vm.expectRevert(
            abi.encodeWithSelector(
                ICiphertextRegistry.CommitmentConflict.selector, items[1].handle, KEY, keccak256("other")
            )
        );
        registry.commit(items, signatures);
        (items[1].digest, items[1].keyId) = (keccak256("other"), keccak256("other key"));
        signatures = _signed(2);
        vm.expectPartialRevert(ICiphertextRegistry.CommitmentConflict.selector);
        registry.commit(items, signatures);
    }

    function test_signatures_are_needed() public {
        bytes[] memory signatures = _signed(1);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 1, 2));
        registry.commit(items, signatures);
        signatures = _signed(2);
        signatures[1] = signatures[0];
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 1, 2));
        registry.commit(items, signatures);
        signatures[1] = _sign(0xbad, _batchDigest(items));
        vm.expectRevert(abi.encodeWithSelector(Signatures.ForeignSigner.selector, 1, vm.addr(0xbad)));
        registry.commit(items, signatures);
        signatures[1] = hex"01";
        vm.expectRevert(abi.encodeWithSelector(Signatures.InvalidSignature.selector, 1));
        registry.commit(items, signatures);
    }

    function test_altered_batch() public {
        bytes[] memory signatures = _signed(2);
        items[0].digest = keccak256("altered");
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        registry.commit(items, signatures);
        items.pop();
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        registry.commit(items, signatures);
    }

    function test_malformed_batches() public {
        bytes[] memory none = new bytes[](0);
        vm.expectRevert(ICiphertextRegistry.EmptyBatch.selector);
        registry.commit(new ICiphertextRegistry.Commitment[](0), none);

        items[1].digest = 0;
        bytes[] memory signatures = _signed(2);
        vm.expectRevert(abi.encodeWithSelector(ICiphertextRegistry.ZeroCommitment.selector, items[1].handle));
        registry.commit(items, signatures);

        items[1].handle = Handles.build(KEY, 0, 999, 5);
        signatures = _signed(2);
        vm.expectRevert(abi.encodeWithSelector(Handles.ForeignChain.selector, items[1].handle, 999));
        registry.commit(items, signatures);
    }

    function test_rules_of_a_coprocessor_set() public {
        vm.expectRevert(abi.encodeWithSelector(CoprocessorQuorum.InvalidCoprocessorThreshold.selector, 0, 3));
        new CiphertextRegistry(coprocessors, 0);
        vm.expectRevert(abi.encodeWithSelector(CoprocessorQuorum.InvalidCoprocessorThreshold.selector, 4, 3));
        new CiphertextRegistry(coprocessors, 4);
        coprocessors[1] = coprocessors[0];
        vm.expectRevert(abi.encodeWithSelector(Committee.DuplicateSigner.selector, coprocessors[0]));
        new CiphertextRegistry(coprocessors, 2);
        assertEq(registry.getThreshold(), 2);
        assertEq(registry.getCoprocessorSigners().length, 3);
    }
}
