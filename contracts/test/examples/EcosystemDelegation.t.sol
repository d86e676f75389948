// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FHE} from "@fhevm/solidity/lib/FHE.sol";
import {CoprocessorConfig} from "@fhevm/solidity/lib/Impl.sol";
import {IUserDecryption} from "../../interfaces/IUserDecryption.sol";
import {KmsTest} from "../support/KmsTest.sol";

/// @dev A contract that lets others read for it, written only against the npm package.
contract EcosystemDelegator {
    constructor(CoprocessorConfig memory config) {
        FHE.setCoprocessor(config);
    }

    function delegate(address to, address target, uint64 until) external {
        FHE.delegateUserDecryption(to, target, until);
    }

    function delegateAll(address to, address[] memory targets) external {
        FHE.delegateUserDecryptionsWithoutExpiration(to, targets);
    }

    function revoke(address to, address target) external {
        FHE.revokeUserDecryptionDelegation(to, target);
    }

    function revokeAll(address to, address[] memory targets) external {
        FHE.revokeUserDecryptionDelegations(to, targets);
    }

    function holds(address to, address target, bytes32 handle) external view returns (bool) {
        return FHE.isDelegatedForUserDecryption(address(this), to, target, handle);
    }

    function until(address to, address target) external view returns (uint64) {
        return FHE.getDelegatedUserDecryptionExpirationDate(address(this), to, target);
    }

    function readable(bytes32 handle, address user, address target) external view returns (bool) {
        return FHE.isUserDecryptable(handle, user, target);
    }
}

/// @dev The ecosystem's calls about user decryption, unchanged, on our addresses.
contract EcosystemDelegationTest is KmsTest {
    address private constant BOB = address(0xb0b);
    address[] private targets = [address(0xda1), address(0xda2), address(0xda3)];
    EcosystemDelegator private delegator;
    bytes32 private handle;

    function setUp() public override {
        super.setUp();
        delegator = new EcosystemDelegator(
            CoprocessorConfig({
                ACLAddress: address(acl), CoprocessorAddress: address(executor), KMSVerifierAddress: address(verifier)
            })
        );
        handle = _handle("h", 5);
        _grant(handle, address(delegator));
        for (uint256 i = 0; i < targets.length; ++i) {
            _grant(handle, targets[i]);
        }
    }

    function test_one_delegation() public {
        uint64 until = uint64(block.timestamp + 1 hours);
        assertEq(delegator.until(BOB, targets[0]), 0);
        delegator.delegate(BOB, targets[0], until);
        assertEq(delegator.until(BOB, targets[0]), until);
        assertTrue(delegator.holds(BOB, targets[0], handle));
        assertFalse(delegator.holds(BOB, targets[1], handle));
        vm.expectPartialRevert(IUserDecryption.AlreadyDelegatedOrRevokedInSameBlock.selector);
        delegator.revoke(BOB, targets[0]);
        vm.roll(block.number + 1);
        delegator.revoke(BOB, targets[0]);
        assertFalse(delegator.holds(BOB, targets[0], handle));
    }

    function test_many_delegations_in_one_call() public {
        delegator.delegateAll(BOB, targets);
        for (uint256 i = 0; i < targets.length; ++i) {
            assertTrue(delegator.holds(BOB, targets[i], handle));
            assertEq(delegator.until(BOB, targets[i]), type(uint64).max);
        }
        vm.roll(block.number + 1);
        delegator.revokeAll(BOB, targets);
        assertFalse(delegator.holds(BOB, targets[2], handle));
    }

    function test_user_and_contract_need_a_right() public {
        assertTrue(delegator.readable(handle, address(delegator), targets[0]));
        assertFalse(delegator.readable(handle, BOB, targets[0]));
        assertFalse(delegator.readable(handle, targets[0], targets[0]));
    }
}
