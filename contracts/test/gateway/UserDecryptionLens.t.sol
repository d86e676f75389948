// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IGuardLens} from "../../interfaces/IGuardLens.sol";
import {IKeyManagement} from "../../interfaces/IKeyManagement.sol";
import {KmsTest} from "../support/KmsTest.sol";
import {Permits} from "../support/Permits.sol";
import {OddWallet, Wallet} from "../support/Wallets.sol";

/// @dev What a party sees of a user decryption.
contract UserDecryptionLensTest is KmsTest {
    uint8 private constant NOT_ASKED = 0;
    uint8 private constant ACCEPTED = 1;
    uint8 private constant OTHER_ANSWER = 2;
    uint8 private constant REVERTED = 3;
    uint8 private constant OTHER_SIZE = 4;
    uint8 private constant NO_CONTRACT = 5;
    uint8 private constant TOO_LITTLE_GAS = 6;
    uint256 private constant SECRET = 0xa11ce;
    address private constant BOB = address(0xb0b);
    address private constant DAPP = address(0xda);
    address private constant OTHER = address(0x07e4);
    address private alice;
    bytes32 private handle;

    function setUp() public override {
        super.setUp();
        alice = vm.addr(SECRET);
        handle = _handle("h", 5);
        _grant(handle, alice);
        _grant(handle, DAPP);
    }

    /// @dev `signer` wants to read `handle` for `user` in the name of the dApp.
    function _query(address user, address signer) private view returns (IGuardLens.UserDecryptionQuery memory query) {
        query.user = user;
        query.signer = signer;
        query.contextId = verifier.currentContextId();
        query.pairs = new IGuardLens.HandleContractPair[](1);
        query.pairs[0] = IGuardLens.HandleContractPair(handle, DAPP);
    }

    function _see(address user, address signer) private view returns (IGuardLens.PairView memory) {
        return lens.viewUserDecryption(_query(user, signer)).pairs[0];
    }

    /// @dev A permit of ten days for the dApp, and its digest in the domain of this deployment.
    function _digest() private view returns (bytes32) {
        Permits.Permit memory permit;
        permit.publicKey = "public key";
        permit.contractAddresses = new address[](1);
        permit.contractAddresses[0] = DAPP;
        (permit.startTimestamp, permit.durationDays) = (block.timestamp, 10);
        return _typed(_domain("Decryption", block.chainid, address(gateway)), Permits.hash(permit));
    }

    function _ask(address signer, bytes memory signature) private view returns (uint8) {
        IGuardLens.UserDecryptionQuery memory query = _query(alice, signer);
        (query.askSigner, query.permitDigest, query.signature) = (true, _digest(), signature);
        return lens.viewUserDecryption(query).signature;
    }

    function _odd(OddWallet.Answer answer) private returns (uint8) {
        return _ask(address(new OddWallet(answer)), "signature");
    }

    function test_the_users_own_value() public {
        bytes32 keyId = keccak256("key");
        IGuardLens.UserDecryptionView memory seen = lens.viewUserDecryption(_query(alice, alice));
        assertEq(seen.blockTimestamp, block.timestamp);
        assertEq(seen.blockNumber, block.number);
        assertEq(seen.currentContextId, verifier.currentContextId());
        assertTrue(seen.contextLive);
        assertEq(seen.signaturesInvalidBefore, 0);
        assertEq(seen.signature, NOT_ASKED);
        assertEq(seen.pairs.length, 1);
        assertTrue(seen.pairs[0].userAllowed);
        assertTrue(seen.pairs[0].contractAllowed);
        assertTrue(seen.pairs[0].delegated);
        assertEq(seen.pairs[0].delegatedUntil, type(uint64).max);
        assertEq(seen.pairs[0].keyId, 0, "not committed yet");
        assertEq(seen.pairs[0].keyState, 0);
        _commit(handle, keyId, keccak256("object"));
        vm.mockCall(
            address(keys),
            abi.encodeCall(IKeyManagement.keyState, (keyId)),
            abi.encode(IKeyManagement.KeyState.Deactivated)
        );
        IGuardLens.PairView memory pair = _see(alice, alice);
        assertEq(pair.keyId, keyId);
        assertEq(pair.digest, keccak256("object"));
        assertEq(pair.keyState, uint8(IKeyManagement.KeyState.Deactivated));
    }

    function test_every_pair_is_looked_at_by_itself() public {
        bytes32 second = _handle("second", 0);
        _grant(second, alice);
        _commit(second, keccak256("key"), keccak256("second object"));
        IGuardLens.UserDecryptionQuery memory query = _query(alice, alice);
        query.pairs = new IGuardLens.HandleContractPair[](4);
        query.pairs[0] = IGuardLens.HandleContractPair(handle, DAPP);
        query.pairs[1] = IGuardLens.HandleContractPair(handle, OTHER);
        query.pairs[2] = IGuardLens.HandleContractPair(second, DAPP);
        query.pairs[3] = IGuardLens.HandleContractPair(_handle("nobody's", 5), DAPP);
        IGuardLens.PairView[] memory seen = lens.viewUserDecryption(query).pairs;
        assertTrue(seen[0].userAllowed && seen[0].contractAllowed);
        assertTrue(seen[1].userAllowed && !seen[1].contractAllowed, "a contract without the right");
        assertTrue(seen[2].userAllowed && !seen[2].contractAllowed);
        assertEq(seen[2].digest, keccak256("second object"));
        assertEq(seen[0].digest, 0);
        assertTrue(!seen[3].userAllowed && !seen[3].contractAllowed);
        query.pairs = new IGuardLens.HandleContractPair[](0);
        assertEq(lens.viewUserDecryption(query).pairs.length, 0);
    }

    function test_somebody_elses_value() public view {
        IGuardLens.PairView memory seen = _see(BOB, BOB);
        assertFalse(seen.userAllowed);
        assertTrue(seen.delegated, "one needs no delegation for oneself");
        seen = _see(alice, BOB);
        assertTrue(seen.userAllowed);
        assertFalse(seen.delegated);
        assertEq(seen.delegatedUntil, 0);
    }

    function test_transient_rights_are_not_seen() public {
        vm.startPrank(address(executor));
        acl.allowTransient(handle, BOB);
        acl.allowTransient(handle, OTHER);
        vm.stopPrank();
        IGuardLens.UserDecryptionQuery memory query = _query(BOB, BOB);
        query.pairs[0].contractAddress = OTHER;
        IGuardLens.PairView memory seen = lens.viewUserDecryption(query).pairs[0];
        assertFalse(seen.userAllowed);
        assertFalse(seen.contractAllowed);
    }

    function test_a_delegation_through_its_life() public {
        uint64 until = uint64(block.timestamp + 1 hours);
        vm.prank(alice);
        acl.delegateForUserDecryption(BOB, DAPP, until);
        assertTrue(_see(alice, BOB).delegated);
        assertEq(_see(alice, BOB).delegatedUntil, until);
        assertFalse(_see(alice, OTHER).delegated, "another delegate");
        vm.warp(until - 1);
        assertTrue(_see(alice, BOB).delegated);
        vm.warp(until);
        assertFalse(_see(alice, BOB).delegated, "expired");
        assertEq(_see(alice, BOB).delegatedUntil, until);
        vm.warp(until - 1);
        vm.roll(block.number + 1);
        vm.prank(alice);
        acl.revokeDelegationForUserDecryption(BOB, DAPP);
        assertFalse(_see(alice, BOB).delegated, "revoked");
        assertEq(_see(alice, BOB).delegatedUntil, 0);
    }

    function test_delegations_for_another_contract_and_for_all() public {
        address wildcard = acl.WILDCARD_CONTRACT();
        vm.startPrank(alice);
        acl.delegateForUserDecryption(BOB, OTHER, uint64(block.timestamp + 1 hours));
        assertFalse(_see(alice, BOB).delegated);
        acl.delegateForUserDecryption(BOB, wildcard, uint64(block.timestamp + 2 hours));
        vm.stopPrank();
        assertTrue(_see(alice, BOB).delegated);
        assertEq(_see(alice, BOB).delegatedUntil, block.timestamp + 2 hours);
    }

    function test_invalidation_is_the_signers() public {
        vm.prank(alice);
        acl.invalidateDecryptionSignaturesBefore(uint64(block.timestamp));
        assertEq(lens.viewUserDecryption(_query(alice, alice)).signaturesInvalidBefore, block.timestamp);
        assertEq(lens.viewUserDecryption(_query(alice, BOB)).signaturesInvalidBefore, 0, "a delegate signs itself");
        assertEq(lens.viewUserDecryption(_query(BOB, alice)).signaturesInvalidBefore, block.timestamp);
    }

    function test_contexts() public {
        IGuardLens.UserDecryptionQuery memory query = _query(alice, alice);
        (bytes32 current, uint256[] memory secrets) = _succeed("next");
        assertTrue(lens.viewUserDecryption(query).contextLive, "old, but not destroyed");
        assertEq(lens.viewUserDecryption(query).currentContextId, current);
        verifier.destroyContext(query.contextId, _signList(secrets, 3, _destructionDigest(current, query.contextId)));
        assertFalse(lens.viewUserDecryption(query).contextLive);
        query.contextId = keccak256("unknown");
        assertFalse(lens.viewUserDecryption(query).contextLive);
    }

    function test_a_smart_account_signs() public {
        address wallet = address(new Wallet(alice));
        bytes memory signature = _sign(SECRET, _digest());
        assertEq(_ask(wallet, signature), ACCEPTED);
        assertEq(_ask(wallet, _sign(SECRET + 1, _digest())), OTHER_ANSWER, "another key");
        assertEq(_ask(wallet, _sign(SECRET, keccak256("another permit"))), OTHER_ANSWER);
        assertEq(_ask(wallet, ""), OTHER_ANSWER);
        assertEq(_ask(wallet, new bytes(64)), OTHER_ANSWER);
        assertEq(_ask(address(new Wallet(address(0))), new bytes(65)), OTHER_ANSWER, "zero recovers to nobody");
    }

    function test_an_account_without_code_is_not_asked() public view {
        assertEq(_ask(alice, _sign(SECRET, _digest())), NO_CONTRACT);
        // The precompiles answer calls, but are nobody: 4 gives back what it gets.
        for (uint160 precompile = 1; precompile < 12; ++precompile) {
            assertEq(_ask(address(precompile), ""), NO_CONTRACT);
        }
        assertEq(_ask(address(0), ""), NO_CONTRACT);
    }

    function test_an_account_that_is_not_asked_does_not_run() public {
        IGuardLens.UserDecryptionQuery memory query = _query(alice, address(new OddWallet(OddWallet.Answer.Burn)));
        query.signature = new bytes(20_000);
        uint256 before = gasleft();
        assertEq(lens.viewUserDecryption(query).signature, NOT_ASKED);
        assertLt(before - gasleft(), 500_000);
    }

    function test_answers_that_are_not_exactly_the_magic_value() public {
        assertEq(_odd(OddWallet.Answer.Magic), ACCEPTED);
        assertEq(_odd(OddWallet.Answer.WrongMagic), OTHER_ANSWER);
        assertEq(_odd(OddWallet.Answer.Zero), OTHER_ANSWER);
        assertEq(_odd(OddWallet.Answer.TrueWord), OTHER_ANSWER);
        assertEq(_odd(OddWallet.Answer.DirtyMagic), OTHER_ANSWER);
        assertEq(_odd(OddWallet.Answer.ShiftedMagic), OTHER_ANSWER);
        assertEq(_odd(OddWallet.Answer.Empty), OTHER_SIZE);
        assertEq(_odd(OddWallet.Answer.Short), OTHER_SIZE);
        assertEq(_odd(OddWallet.Answer.Long), OTHER_SIZE);
        assertEq(_odd(OddWallet.Answer.ReturnBomb), OTHER_SIZE);
        assertEq(_odd(OddWallet.Answer.Revert), REVERTED);
        assertEq(_odd(OddWallet.Answer.RevertWithMagic), REVERTED);
        assertEq(_odd(OddWallet.Answer.RevertBomb), REVERTED);
        assertEq(_odd(OddWallet.Answer.Write), REVERTED, "it must change nothing");
    }

    function test_gas_burners_cost_what_was_granted() public {
        OddWallet.Answer[4] memory answers =
            [OddWallet.Answer.Burn, OddWallet.Answer.Loop, OddWallet.Answer.Invalid, OddWallet.Answer.ReturnBomb];
        for (uint256 i = 0; i < answers.length; ++i) {
            address wallet = address(new OddWallet(answers[i]));
            uint256 before = gasleft();
            uint8 seen = _ask(wallet, "signature");
            assertLt(before - gasleft(), lens.SIGNATURE_GAS() + 300_000);
            assertEq(seen, answers[i] == OddWallet.Answer.ReturnBomb ? OTHER_SIZE : REVERTED);
        }
    }

    /// @dev The account cannot tell endpoints apart by the gas that they give to a call.
    function test_the_account_gets_the_same_gas_whatever_the_call_has() public {
        IGuardLens.UserDecryptionQuery memory query =
            _query(alice, address(new OddWallet(OddWallet.Answer.MagicIfGasIsAsPromised)));
        query.askSigner = true;
        assertEq(lens.viewUserDecryption(query).signature, ACCEPTED);
        for (uint256 given = 1_900_000; given < 2_300_000; given += 10_000) {
            uint8 seen = lens.viewUserDecryption{gas: given}(query).signature;
            assertTrue(seen == ACCEPTED || seen == TOO_LITTLE_GAS);
        }
        assertEq(lens.viewUserDecryption{gas: 1_900_000}(query).signature, TOO_LITTLE_GAS);
        assertEq(lens.viewUserDecryption{gas: 2_250_000}(query).signature, ACCEPTED);
    }

    function test_bounds() public {
        IGuardLens.UserDecryptionQuery memory query = _query(alice, alice);
        uint256 most = lens.MAX_PAIRS();
        assertEq(most, 1024, "2,048 bits of booleans");
        query.pairs = new IGuardLens.HandleContractPair[](most + 1);
        vm.expectRevert(abi.encodeWithSelector(IGuardLens.TooManyPairs.selector, most + 1, most));
        lens.viewUserDecryption(query);

        address wallet = address(new OddWallet(OddWallet.Answer.Magic));
        uint256 longest = lens.MAX_SIGNATURE();
        assertEq(_ask(wallet, new bytes(longest)), ACCEPTED);
        query = _query(alice, wallet);
        (query.askSigner, query.signature) = (true, new bytes(longest + 1));
        vm.expectRevert(abi.encodeWithSelector(IGuardLens.SignatureTooLong.selector, longest + 1, longest));
        lens.viewUserDecryption(query);
    }

    /// @dev The largest question, with a burner as signer, stays below what any client grants to an `eth_call`.
    function test_the_largest_question_can_be_answered() public {
        IGuardLens.UserDecryptionQuery memory query = _query(alice, address(new OddWallet(OddWallet.Answer.Burn)));
        (query.askSigner, query.signature) = (true, new bytes(lens.MAX_SIGNATURE()));
        query.pairs = new IGuardLens.HandleContractPair[](lens.MAX_PAIRS());
        for (uint256 i = 0; i < query.pairs.length; ++i) {
            query.pairs[i] =
                IGuardLens.HandleContractPair(_handle(vm.toString(i), 0), address(uint160(uint256(1000 + i))));
        }
        IGuardLens.UserDecryptionView memory seen = lens.viewUserDecryption{gas: 29_000_000}(query);
        assertEq(seen.signature, REVERTED);
        assertEq(seen.pairs.length, query.pairs.length);
    }

    function testFuzz_the_lens_says_what_the_contracts_say(
        address user,
        address signer,
        address target,
        bool userHolds,
        bool targetHolds,
        uint64 until,
        uint64 time
    ) public {
        vm.assume(user != address(0) && signer != address(0) && target != signer && target != user);
        vm.assume(user != address(acl) && target != address(acl));
        bytes32 value = _handle("fuzz", 5);
        if (userHolds) _grant(value, user);
        if (targetHolds) _grant(value, target);
        until = uint64(bound(until, block.timestamp + 1, type(uint64).max));
        if (user != signer) {
            vm.prank(user);
            acl.delegateForUserDecryption(signer, target, until);
        }
        vm.warp(bound(time, block.timestamp, type(uint64).max - 1));
        IGuardLens.UserDecryptionQuery memory query = _query(user, signer);
        query.pairs[0] = IGuardLens.HandleContractPair(value, target);
        IGuardLens.PairView memory seen = lens.viewUserDecryption(query).pairs[0];
        assertEq(seen.userAllowed, acl.persistAllowed(value, user));
        assertEq(seen.contractAllowed, acl.persistAllowed(value, target));
        bool allowed = seen.userAllowed && seen.contractAllowed && seen.delegated;
        assertEq(
            allowed,
            user == signer
                ? userHolds && targetHolds
                : acl.isHandleDelegatedForUserDecryption(user, signer, target, value)
        );
    }
}
