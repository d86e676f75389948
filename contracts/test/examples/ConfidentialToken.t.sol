// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Vm} from "forge-std/Vm.sol";
import {ConfidentialToken} from "../../examples/ConfidentialToken.sol";
import {IFheExecutor} from "../../interfaces/IFheExecutor.sol";
import {IGuardLens} from "../../interfaces/IGuardLens.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {TokenTest} from "../support/TokenTest.sol";

/// @dev The example token, with the coprocessor played by the test.
contract ConfidentialTokenTest is TokenTest {
    /// @dev Whether a party would let `reader` read `handle` in the token's name.
    function _readable(bytes32 handle, address reader) private view returns (bool) {
        IGuardLens.UserDecryptionQuery memory query;
        (query.user, query.signer) = (reader, reader);
        query.pairs = new IGuardLens.HandleContractPair[](1);
        query.pairs[0] = IGuardLens.HandleContractPair(handle, address(token));
        IGuardLens.PairView memory seen = lens.viewUserDecryption(query).pairs[0];
        return seen.userAllowed && seen.contractAllowed && seen.delegated;
    }

    function test_minting() public {
        vm.expectEmit(address(token));
        emit ConfidentialToken.Minted(ALICE, 100, 100);
        _mint(ALICE, 100);
        _mint(ALICE, 20);
        assertEq(_balanceOf(ALICE), 120);
        assertEq(token.totalSupply(), 120);
        assertEq(token.confidentialBalanceOf(BOB), 0);
    }

    function test_a_transfer_moves_what_the_sender_has() public {
        _mint(ALICE, 100);
        _mint(BOB, 1);
        bytes32 moved = _transfer(ALICE, BOB, 30);
        assertEq(_balanceOf(ALICE), 70);
        assertEq(_balanceOf(BOB), 31);
        assertEq(plain[moved], 30);
        _transfer(ALICE, CAROL, 70);
        assertEq(_balanceOf(ALICE), 0, "all of it");
        assertEq(_balanceOf(CAROL), 70);
    }

    function test_too_much_moves_nothing_and_looks_the_same() public {
        _mint(ALICE, 100);
        _mint(BOB, 1);
        (bytes32 handle, bytes memory proof) = _amount(ALICE);
        vm.prank(ALICE);
        token.confidentialTransfer(BOB, handle, proof);
        Vm.Log[] memory good = vm.getRecordedLogs();
        vm.roll(block.number + 1);
        (handle, proof) = _amount(ALICE);
        vm.prank(ALICE);
        bytes32 moved = token.confidentialTransfer(BOB, handle, proof);
        Vm.Log[] memory bad = vm.getRecordedLogs();
        assertEq(good.length, bad.length);
        for (uint256 i = 0; i < good.length; ++i) {
            assertEq(good[i].topics[0], bad[i].topics[0]);
            assertEq(good[i].data.length, bad[i].data.length);
        }
        assertTrue(_readable(moved, ALICE) && _readable(moved, BOB));
    }

    function test_too_much_by_one_moves_nothing() public {
        _mint(ALICE, 100);
        _mint(BOB, 1);
        bytes32 moved = _transfer(ALICE, BOB, 101);
        assertEq(plain[moved], 0);
        assertEq(_balanceOf(ALICE), 100);
        assertEq(_balanceOf(BOB), 1);
        _transfer(ALICE, BOB, type(uint64).max);
        assertEq(_balanceOf(ALICE), 100);
    }

    function test_a_sender_that_never_had_anything() public {
        assertEq(plain[_transfer(CAROL, BOB, 5)], 0);
        assertEq(_balanceOf(CAROL), 0);
        assertEq(_balanceOf(BOB), 0);
        assertEq(plain[_transfer(CAROL, BOB, 0)], 0);
    }

    function test_sending_to_oneself_changes_nothing() public {
        _mint(ALICE, 100);
        _transfer(ALICE, ALICE, 40);
        assertEq(_balanceOf(ALICE), 100);
        _transfer(ALICE, ALICE, 140);
        assertEq(_balanceOf(ALICE), 100);
    }

    function test_who_may_read_what() public {
        _mint(ALICE, 100);
        _mint(BOB, 1);
        bytes32 old = token.confidentialBalanceOf(ALICE);
        bytes32 moved = _transfer(ALICE, BOB, 30);
        bytes32 alices = token.confidentialBalanceOf(ALICE);
        bytes32 bobs = token.confidentialBalanceOf(BOB);
        assertTrue(_readable(alices, ALICE), "the sender its balance");
        assertTrue(_readable(bobs, BOB), "the receiver its balance");
        assertTrue(_readable(moved, ALICE) && _readable(moved, BOB), "both what was moved");
        assertTrue(_readable(old, ALICE), "rights are never taken back");
        assertFalse(_readable(alices, BOB) || _readable(old, BOB), "not the receiver the sender's");
        assertFalse(_readable(bobs, ALICE), "not the sender the receiver's");
        assertFalse(_readable(alices, CAROL) || _readable(bobs, CAROL) || _readable(moved, CAROL));
        assertFalse(_readable(alices, address(this)) || _readable(bobs, address(this)), "not who minted");
        assertFalse(acl.isAllowedForDecryption(alices) || acl.isAllowedForDecryption(moved), "nothing is public");
    }

    function test_a_delegate_reads_for_a_holder() public {
        _mint(ALICE, 100);
        bytes32 balance = token.confidentialBalanceOf(ALICE);
        vm.prank(ALICE);
        acl.delegateForUserDecryption(CAROL, address(token), uint64(block.timestamp + 1 days));
        assertTrue(acl.isHandleDelegatedForUserDecryption(ALICE, CAROL, address(token), balance));
        assertFalse(_readable(balance, CAROL), "but not in its own name");
    }

    function test_an_amount_serves_its_sender_and_this_token_only() public {
        _mint(BOB, 100);
        (bytes32 handle, bytes memory proof) = _amount(ALICE);
        vm.prank(BOB);
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        token.confidentialTransfer(CAROL, handle, proof);
        ConfidentialToken other = new ConfidentialToken(executor);
        vm.prank(ALICE);
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        other.confidentialTransfer(CAROL, handle, proof);
    }

    function test_a_foreign_balance_is_no_amount() public {
        _mint(ALICE, 100);
        _mint(BOB, 100);
        bytes32 alices = token.confidentialBalanceOf(ALICE);
        vm.prank(BOB);
        vm.expectRevert();
        token.confidentialTransfer(CAROL, alices, "");
    }

    function test_an_amount_of_another_type() public {
        bytes32[] memory amount = _one(_inputHandle("amount", 0, 4));
        bytes memory proof = _inputProof(amount, ALICE, address(token), 2);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.InputTypeMismatch.selector, 5, 4));
        token.confidentialTransfer(BOB, amount[0], proof);
    }

    function test_receivers_that_would_lose_it() public {
        address[2] memory lost = [address(0), address(token)];
        for (uint256 i = 0; i < lost.length; ++i) {
            bytes memory why = abi.encodeWithSelector(ConfidentialToken.InvalidReceiver.selector, lost[i]);
            (bytes32 handle, bytes memory proof) = _amount(ALICE);
            vm.prank(ALICE);
            vm.expectRevert(why);
            token.confidentialTransfer(lost[i], handle, proof);
            vm.expectRevert(why);
            token.mint(lost[i], 1);
        }
    }

    function test_minting_is_the_owners_and_bounded() public {
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(ConfidentialToken.NotOwner.selector, ALICE));
        token.mint(ALICE, 1);
        uint64 most = token.MAX_MINT();
        vm.expectRevert(abi.encodeWithSelector(ConfidentialToken.MintTooLarge.selector, most + 1, most));
        token.mint(ALICE, most + 1);
        _mint(ALICE, most);
        // Near the end of what 64 bits hold, the supply is the bound.
        vm.store(address(token), 0, bytes32(uint256(type(uint64).max - 9)));
        assertEq(token.totalSupply(), type(uint64).max - 9);
        vm.expectRevert(abi.encodeWithSelector(ConfidentialToken.MintTooLarge.selector, 10, 9));
        token.mint(BOB, 10);
        token.mint(BOB, 9);
        vm.expectRevert(abi.encodeWithSelector(ConfidentialToken.MintTooLarge.selector, 1, 0));
        token.mint(BOB, 1);
    }

    /// @dev Handles are hashes of what is computed: equal public mintings of one block are one ciphertext. It tells nothing new.
    function test_first_mintings_of_one_block_may_share_a_handle() public {
        token.mint(ALICE, 5);
        token.mint(BOB, 5);
        assertEq(token.confidentialBalanceOf(ALICE), token.confidentialBalanceOf(BOB));
        token.mint(CAROL, 6);
        assertNotEq(token.confidentialBalanceOf(ALICE), token.confidentialBalanceOf(CAROL));
    }

    function testFuzz_balances_add_up(uint64[8] memory amounts, uint8[8] memory ways) public {
        address[3] memory people = [ALICE, BOB, CAROL];
        uint256[3] memory book;
        for (uint256 i = 0; i < 3; ++i) {
            book[i] = amounts[i] % token.MAX_MINT();
            _mint(people[i], uint64(book[i]));
        }
        for (uint256 i = 0; i < amounts.length; ++i) {
            (uint256 from, uint256 to) = (ways[i] % 3, ways[i] / 3 % 3);
            uint64 amount = ways[i] > 127 ? amounts[i] : amounts[i] % token.MAX_MINT();
            _transfer(people[from], people[to], amount);
            if (book[from] >= amount) {
                book[from] -= amount;
                book[to] += amount;
            }
            for (uint256 j = 0; j < 3; ++j) {
                assertEq(_balanceOf(people[j]), book[j]);
            }
        }
    }
}
