// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KmsTest} from "../support/KmsTest.sol";
import {AccessControl} from "../../registry/AccessControl.sol";
import {IAccessControl} from "../../interfaces/IAccessControl.sol";

contract AccessControlTest is KmsTest {
    address private constant ALICE = address(0xa11ce);
    address private constant BOB = address(0xb0b);
    bytes32 private handle;

    function setUp() public override {
        super.setUp();
        handle = _handle("h", 5);
    }

    function _denied(address who) private {
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.SenderNotAllowed.selector, handle, who));
    }

    function test_nobody_but_the_executor_grants_a_first_right() public {
        vm.startPrank(ALICE);
        _denied(ALICE);
        acl.allow(handle, ALICE);
        _denied(ALICE);
        acl.allowTransient(handle, ALICE);
        _denied(ALICE);
        acl.allowForDecryption(_one(handle));
        vm.stopPrank();
        // The executor itself may only begin with a transient right.
        vm.prank(address(executor));
        _denied(address(executor));
        acl.allow(handle, ALICE);
    }

    function test_there_is_always_an_executor() public {
        vm.expectRevert(IAccessControl.ZeroExecutor.selector);
        new AccessControl(address(0));
    }

    function test_rights_are_passed_on() public {
        vm.prank(address(executor));
        acl.allowTransient(handle, ALICE);
        assertTrue(acl.isAllowed(handle, ALICE));
        assertTrue(acl.allowedTransient(handle, ALICE));
        assertFalse(acl.persistAllowed(handle, ALICE));
        vm.startPrank(ALICE);
        vm.expectEmit(address(acl));
        emit IAccessControl.Allowed(ALICE, BOB, handle);
        acl.allow(handle, BOB);
        assertTrue(acl.persistAllowed(handle, BOB));
        acl.allowTransient(handle, address(this));
        vm.stopPrank();
        acl.allow(handle, address(this));
        assertTrue(acl.persistAllowed(handle, address(this)));
    }

    function test_public_decryption_needs_a_right_on_every_handle() public {
        _grant(handle, ALICE);
        bytes32[] memory both = new bytes32[](2);
        (both[0], both[1]) = (handle, _handle("foreign", 5));
        vm.startPrank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.SenderNotAllowed.selector, both[1], ALICE));
        acl.allowForDecryption(both);
        vm.expectRevert(IAccessControl.EmptyHandles.selector);
        acl.allowForDecryption(new bytes32[](0));
        vm.expectEmit(address(acl));
        emit IAccessControl.AllowedForDecryption(ALICE, _one(handle));
        acl.allowForDecryption(_one(handle));
        assertTrue(acl.isAllowedForDecryption(handle));
        assertFalse(acl.isAllowedForDecryption(both[1]));
    }

    function test_cleaning_ends_all_transient_rights_and_no_lasting_one() public {
        _grant(handle, BOB);
        vm.prank(address(executor));
        acl.allowTransient(handle, ALICE);
        acl.cleanTransientStorage();
        assertFalse(acl.isAllowed(handle, ALICE));
        assertTrue(acl.isAllowed(handle, BOB));
    }

    /// forge-config: default.isolate = true
    function test_transient_right_ends_with_the_transaction() public {
        vm.prank(address(executor));
        acl.allowTransient(handle, ALICE);
        assertFalse(acl.isAllowed(handle, ALICE));
    }

    function test_first_not_decryptable() public {
        bytes32[] memory list = new bytes32[](3);
        (list[0], list[1], list[2]) = (handle, _handle("public", 5), _handle("none", 5));
        _grant(list[0], ALICE);
        _grant(list[1], BOB);
        vm.prank(BOB);
        acl.allowForDecryption(_one(list[1]));
        assertEq(acl.firstNotDecryptable(list, ALICE), list[2]);
        assertEq(acl.firstNotDecryptable(list, BOB), list[0]);
        // A transient right is not seen: the parties could not see it either.
        vm.prank(address(executor));
        acl.allowTransient(list[2], ALICE);
        assertEq(acl.firstNotDecryptable(list, ALICE), list[2]);
        _grant(list[2], ALICE);
        assertEq(acl.firstNotDecryptable(list, ALICE), 0);
    }

    function test_ecosystem_calls() public {
        assertFalse(acl.isAccountDenied(ALICE));
        assertEq(acl.getFHEVMExecutorAddress(), address(executor));
    }
}
