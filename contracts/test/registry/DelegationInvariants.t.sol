// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {IAccessControl} from "../../interfaces/IAccessControl.sol";
import {KmsTest} from "../support/KmsTest.sol";

/// @dev Delegates and revokes at random and keeps a book of its own.
contract DelegationHandler is Test {
    IAccessControl internal immutable acl;
    address[3] internal people = [address(0xa11ce), address(0xb0b), address(0xca401)];
    address[3] internal targets = [address(0xda1), address(0xda2), address(type(uint160).max)];

    /// @dev Expiration date and number of changes, by delegator, delegate and target.
    mapping(uint256 => mapping(uint256 => mapping(uint256 => uint64))) public until;
    mapping(uint256 => mapping(uint256 => mapping(uint256 => uint64))) public changes;
    mapping(uint256 => uint64) public invalid;
    uint256 public revoked;

    constructor(IAccessControl acl_) {
        acl = acl_;
    }

    function delegate(uint256 from, uint256 to, uint256 target, uint32 ahead) external {
        (from, to, target) = (from % 3, to % 3, target % 3);
        uint64 date = uint64(block.timestamp) + ahead;
        vm.prank(people[from]);
        acl.delegateForUserDecryption(people[to], targets[target], date);
        until[from][to][target] = date;
        ++changes[from][to][target];
    }

    function revoke(uint256 from, uint256 to, uint256 target) external {
        (from, to, target) = (from % 3, to % 3, target % 3);
        vm.prank(people[from]);
        acl.revokeDelegationForUserDecryption(people[to], targets[target]);
        until[from][to][target] = 0;
        ++changes[from][to][target];
        ++revoked;
    }

    function invalidate(uint256 who, uint64 time) external {
        who %= 3;
        time = uint64(bound(time, 0, block.timestamp + 400 days));
        vm.prank(people[who]);
        acl.invalidateDecryptionSignaturesBefore(time);
        // More than it was, or the call would have failed.
        require(time > invalid[who], "went back");
        invalid[who] = time;
    }

    function wait(uint32 time) external {
        vm.warp(block.timestamp + time % 30 days);
        vm.roll(block.number + 1);
    }

    function check() external view {
        for (uint256 from = 0; from < 3; ++from) {
            assertEq(acl.decryptionSignaturesInvalidBefore(people[from]), invalid[from]);
            for (uint256 to = 0; to < 3; ++to) {
                for (uint256 target = 0; target < 3; ++target) {
                    _check(from, to, target);
                }
            }
        }
    }

    function _check(uint256 from, uint256 to, uint256 target) private view {
        uint64 exact = until[from][to][target];
        uint64 any = until[from][to][2];
        address contractAddress = targets[target];
        assertEq(acl.userDecryptionDelegatedUntil(people[from], people[to], contractAddress), exact > any ? exact : any);
        assertEq(acl.getUserDecryptionDelegationExpirationDate(people[from], people[to], contractAddress), exact);
        assertEq(
            acl.userDecryptionDelegationOf(people[from], people[to], contractAddress).counter, changes[from][to][target]
        );
        if (from == to) assertEq(exact, 0, "nobody delegates to itself");
    }
}

contract DelegationInvariantsTest is KmsTest {
    DelegationHandler private handler;

    function setUp() public override {
        super.setUp();
        handler = new DelegationHandler(acl);
        targetContract(address(handler));
    }

    /// @dev Nothing but the delegator's own calls changes a delegation, and every change is counted.
    function invariant_delegations_are_what_their_delegators_said() public view {
        handler.check();
    }

    /// @dev The handler's actions do what they are named for.
    function test_the_handler_delegates_and_revokes() public {
        handler.delegate(0, 1, 0, 1 hours);
        handler.delegate(0, 1, 2, 2 hours);
        handler.invalidate(1, uint64(block.timestamp));
        handler.wait(1 days);
        handler.revoke(0, 1, 0);
        assertEq(handler.revoked(), 1);
        assertEq(handler.changes(0, 1, 0), 2);
        handler.check();
    }
}
