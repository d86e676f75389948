// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IUserDecryption} from "../../interfaces/IUserDecryption.sol";
import {KmsTest} from "../support/KmsTest.sol";

/// @dev Who may read for whom, and which permits count.
contract DelegationTest is KmsTest {
    address private constant ALICE = address(0xa11ce);
    address private constant BOB = address(0xb0b);
    address private constant DAPP = address(0xda);
    address private constant OTHER = address(0x07e4);
    address private wildcard;
    bytes32 private handle;

    function setUp() public override {
        super.setUp();
        wildcard = acl.WILDCARD_CONTRACT();
        handle = _handle("h", 5);
        _grant(handle, ALICE);
        _grant(handle, DAPP);
    }

    /// @dev Alice delegates to Bob, in a block of its own.
    function _delegate(address target, uint64 until) private {
        vm.roll(block.number + 1);
        vm.prank(ALICE);
        acl.delegateForUserDecryption(BOB, target, until);
    }

    function _revoke(address target) private {
        vm.roll(block.number + 1);
        vm.prank(ALICE);
        acl.revokeDelegationForUserDecryption(BOB, target);
    }

    function _holds(address target) private view returns (bool) {
        return acl.isHandleDelegatedForUserDecryption(ALICE, BOB, target, handle);
    }

    function _soon() private view returns (uint64) {
        return uint64(block.timestamp + 1 hours);
    }

    function test_a_delegation_holds_before_its_expiration_date_and_not_at_it() public {
        assertFalse(_holds(DAPP));
        uint64 until = _soon();
        _delegate(DAPP, until);
        assertTrue(_holds(DAPP));
        assertEq(acl.userDecryptionDelegatedUntil(ALICE, BOB, DAPP), until);
        assertEq(acl.getUserDecryptionDelegationExpirationDate(ALICE, BOB, DAPP), until);
        vm.warp(until - 1);
        assertTrue(_holds(DAPP));
        vm.warp(until);
        assertFalse(_holds(DAPP));
        assertEq(acl.getUserDecryptionDelegationExpirationDate(ALICE, BOB, DAPP), until, "still told");
    }

    function test_the_next_second_is_soon_enough_and_the_last_one_is_never() public {
        _delegate(DAPP, uint64(block.timestamp + 1));
        assertTrue(_holds(DAPP));
        _delegate(DAPP, type(uint64).max);
        vm.warp(type(uint64).max - 1);
        assertTrue(_holds(DAPP));
    }

    function test_it_holds_for_one_delegator_delegate_and_contract() public {
        _grant(handle, OTHER);
        _delegate(DAPP, _soon());
        assertFalse(_holds(OTHER), "another contract");
        assertFalse(acl.isHandleDelegatedForUserDecryption(ALICE, OTHER, DAPP, handle), "another delegate");
        assertFalse(acl.isHandleDelegatedForUserDecryption(BOB, ALICE, DAPP, handle), "the other way round");
        assertFalse(acl.isHandleDelegatedForUserDecryption(OTHER, BOB, DAPP, handle), "another delegator");
        assertEq(acl.userDecryptionDelegatedUntil(ALICE, BOB, OTHER), 0);
    }

    function test_a_handle_needs_the_rights_of_delegator_and_contract() public {
        _delegate(DAPP, _soon());
        _delegate(OTHER, _soon());
        assertTrue(_holds(DAPP));
        assertFalse(_holds(OTHER), "the contract holds no right");
        bytes32 foreign = _handle("foreign", 5);
        _grant(foreign, DAPP);
        assertFalse(acl.isHandleDelegatedForUserDecryption(ALICE, BOB, DAPP, foreign), "the delegator holds no right");
        // A transient right does not count: parties could not see it.
        vm.prank(address(executor));
        acl.allowTransient(foreign, ALICE);
        assertFalse(acl.isHandleDelegatedForUserDecryption(ALICE, BOB, DAPP, foreign));
        vm.prank(ALICE);
        acl.allow(foreign, ALICE);
        assertTrue(acl.isHandleDelegatedForUserDecryption(ALICE, BOB, DAPP, foreign));
    }

    function test_the_wildcard_stands_for_every_contract() public {
        _grant(handle, OTHER);
        _delegate(wildcard, _soon());
        assertTrue(_holds(DAPP));
        assertTrue(_holds(OTHER));
        assertEq(acl.getUserDecryptionDelegationExpirationDate(ALICE, BOB, DAPP), 0, "exactly this one: none");
        // The later of both counts, and one is revoked without the other.
        uint64 later = _soon() + 1 days;
        _delegate(DAPP, later);
        assertEq(acl.userDecryptionDelegatedUntil(ALICE, BOB, DAPP), later);
        _revoke(DAPP);
        assertTrue(_holds(DAPP), "by the wildcard");
        _delegate(DAPP, _soon());
        _revoke(wildcard);
        assertTrue(_holds(DAPP), "by itself");
        assertFalse(_holds(OTHER));
    }

    function test_revocation_counts_at_once_and_can_be_taken_back() public {
        uint64 until = _soon();
        vm.roll(block.number + 1);
        vm.expectEmit(address(acl));
        emit IUserDecryption.DelegatedForUserDecryption(ALICE, BOB, DAPP, 1, 0, until);
        vm.prank(ALICE);
        acl.delegateForUserDecryption(BOB, DAPP, until);
        vm.roll(block.number + 1);
        vm.expectEmit(address(acl));
        emit IUserDecryption.RevokedDelegationForUserDecryption(ALICE, BOB, DAPP, 2, until);
        vm.prank(ALICE);
        acl.revokeDelegationForUserDecryption(BOB, DAPP);
        assertFalse(_holds(DAPP));
        assertEq(acl.userDecryptionDelegatedUntil(ALICE, BOB, DAPP), 0);
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.NotDelegatedYet.selector, BOB, DAPP));
        vm.prank(ALICE);
        acl.revokeDelegationForUserDecryption(BOB, DAPP);
        vm.expectEmit(address(acl));
        emit IUserDecryption.DelegatedForUserDecryption(ALICE, BOB, DAPP, 3, 0, until);
        vm.prank(ALICE);
        acl.delegateForUserDecryption(BOB, DAPP, until);
        assertTrue(_holds(DAPP));
        IUserDecryption.Delegation memory seen = acl.userDecryptionDelegationOf(ALICE, BOB, DAPP);
        assertEq(seen.expirationDate, until);
        assertEq(seen.counter, 3);
        assertEq(seen.lastBlock, block.number);
    }

    function test_an_expired_delegation_can_be_renewed_and_revoked() public {
        uint64 until = _soon();
        _delegate(DAPP, until);
        vm.warp(until);
        _revoke(DAPP);
        vm.warp(until + 10);
        _delegate(DAPP, until + 20);
        assertTrue(_holds(DAPP));
        vm.warp(until + 30);
        _delegate(DAPP, until + 40);
        assertTrue(_holds(DAPP));
    }

    function test_a_delegation_can_be_shortened() public {
        _delegate(DAPP, _soon() + 1 days);
        _delegate(DAPP, _soon());
        assertEq(acl.userDecryptionDelegatedUntil(ALICE, BOB, DAPP), _soon());
    }

    function test_once_per_block_and_per_delegation() public {
        uint64 until = _soon();
        vm.startPrank(ALICE);
        acl.delegateForUserDecryption(BOB, DAPP, until);
        acl.delegateForUserDecryption(BOB, OTHER, until);
        acl.delegateForUserDecryption(OTHER, DAPP, until);
        bytes memory why = abi.encodeWithSelector(
            IUserDecryption.AlreadyDelegatedOrRevokedInSameBlock.selector, BOB, DAPP, block.number
        );
        vm.expectRevert(why);
        acl.delegateForUserDecryption(BOB, DAPP, until + 1);
        vm.expectRevert(why);
        acl.revokeDelegationForUserDecryption(BOB, DAPP);
        vm.stopPrank();
        vm.prank(BOB);
        acl.delegateForUserDecryption(OTHER, DAPP, until);
    }

    function test_what_is_refused() public {
        uint64 until = _soon();
        vm.startPrank(ALICE);
        vm.expectRevert(IUserDecryption.ZeroDelegate.selector);
        acl.delegateForUserDecryption(address(0), DAPP, until);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.SenderCannotBeDelegate.selector, ALICE));
        acl.delegateForUserDecryption(ALICE, DAPP, until);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.SenderCannotBeContractAddress.selector, ALICE));
        acl.delegateForUserDecryption(BOB, ALICE, until);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.DelegateCannotBeContractAddress.selector, BOB));
        acl.delegateForUserDecryption(BOB, BOB, until);
        for (uint256 late = 0; late < 2; ++late) {
            uint64 past = uint64(block.timestamp - late);
            vm.expectRevert(
                abi.encodeWithSelector(IUserDecryption.ExpirationDateInThePast.selector, past, block.timestamp)
            );
            acl.delegateForUserDecryption(BOB, DAPP, past);
        }
        acl.delegateForUserDecryption(BOB, DAPP, until);
        vm.roll(block.number + 1);
        vm.expectRevert(
            abi.encodeWithSelector(IUserDecryption.ExpirationDateAlreadySetToSameValue.selector, BOB, DAPP, until)
        );
        acl.delegateForUserDecryption(BOB, DAPP, until);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.NotDelegatedYet.selector, BOB, OTHER));
        acl.revokeDelegationForUserDecryption(BOB, OTHER);
    }

    function test_several_calls_in_one_are_all_or_nothing_and_in_the_senders_name() public {
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(acl.delegateForUserDecryption, (BOB, DAPP, _soon()));
        calls[1] = abi.encodeCall(acl.delegateForUserDecryption, (BOB, wildcard, _soon()));
        vm.prank(ALICE);
        acl.multicall(calls);
        assertTrue(_holds(DAPP));
        assertEq(acl.userDecryptionDelegatedUntil(ALICE, BOB, wildcard), _soon());
        vm.roll(block.number + 1);
        calls[0] = abi.encodeCall(acl.revokeDelegationForUserDecryption, (BOB, DAPP));
        calls[1] = abi.encodeCall(acl.revokeDelegationForUserDecryption, (BOB, OTHER));
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.NotDelegatedYet.selector, BOB, OTHER));
        acl.multicall(calls);
        assertTrue(_holds(DAPP));
        // A call inside gives nobody more than it has: rights on handles included.
        calls[0] = abi.encodeCall(acl.allow, (handle, OTHER));
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSignature("SenderNotAllowed(bytes32,address)", handle, BOB));
        acl.multicall(calls);
    }

    function test_permits_are_invalidated_before_a_time_that_only_grows() public {
        assertEq(acl.decryptionSignaturesInvalidBefore(ALICE), 0);
        uint64 now_ = uint64(block.timestamp);
        vm.startPrank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.InvalidationNotLater.selector, 0, 0));
        acl.invalidateDecryptionSignaturesBefore(0);
        vm.expectEmit(address(acl));
        emit IUserDecryption.DecryptionSignaturesInvalidated(ALICE, now_);
        acl.invalidateDecryptionSignaturesBefore(now_);
        assertEq(acl.decryptionSignaturesInvalidBefore(ALICE), now_);
        assertEq(acl.decryptionSignaturesInvalidBefore(BOB), 0, "nobody else's");
        for (uint64 back = 0; back < 2; ++back) {
            vm.expectRevert(abi.encodeWithSelector(IUserDecryption.InvalidationNotLater.selector, now_ - back, now_));
            acl.invalidateDecryptionSignaturesBefore(now_ - back);
        }
        uint64 latest = now_ + acl.MAX_INVALIDATION_AHEAD();
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.InvalidationTooFarAhead.selector, latest + 1, latest));
        acl.invalidateDecryptionSignaturesBefore(latest + 1);
        vm.expectRevert(abi.encodeWithSelector(IUserDecryption.InvalidationTooFarAhead.selector, now_ * 1000, latest));
        acl.invalidateDecryptionSignaturesBefore(now_ * 1000);
        acl.invalidateDecryptionSignaturesBefore(latest);
        assertEq(acl.decryptionSignaturesInvalidBefore(ALICE), latest);
    }

    function testFuzz_the_later_of_exact_and_wildcard_counts(uint64 exact, uint64 any, uint64 time) public {
        uint64 start = uint64(block.timestamp);
        exact = uint64(bound(exact, start + 1, type(uint64).max));
        any = uint64(bound(any, start + 1, type(uint64).max));
        _delegate(DAPP, exact);
        _delegate(wildcard, any);
        vm.warp(time);
        assertEq(_holds(DAPP), time < exact || time < any);
        _revoke(wildcard);
        assertEq(_holds(DAPP), time < exact);
    }

    function testFuzz_storage_of_different_delegations_is_apart(address delegator, address delegate, address target)
        public
    {
        vm.assume(delegate != address(0) && delegate != delegator && target != delegator && target != delegate);
        vm.prank(delegator);
        acl.delegateForUserDecryption(delegate, target, _soon());
        bool same = delegator == ALICE && delegate == BOB && (target == DAPP || target == wildcard);
        assertEq(_holds(DAPP), same);
        assertEq(acl.userDecryptionDelegatedUntil(delegator, delegate, target), _soon());
    }
}
