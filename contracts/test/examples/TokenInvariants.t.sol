// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {TokenTest} from "../support/TokenTest.sol";

/// @dev Mints and sends at random.
contract TokenHandler is Test {
    TokenInvariantsTest internal immutable owner;
    uint256 public minted;
    uint256 public sent;

    constructor(TokenInvariantsTest owner_) {
        owner = owner_;
    }

    function mint(uint256 to, uint64 amount) external {
        owner.mint(to % 3, amount);
        ++minted;
    }

    function send(uint256 from, uint256 to, uint64 amount, bool small) external {
        owner.send(from % 3, to % 3, small ? amount % 1e6 : amount);
        ++sent;
    }
}

contract TokenInvariantsTest is TokenTest {
    TokenHandler private handler;
    address[3] private people = [ALICE, BOB, CAROL];

    function setUp() public override {
        super.setUp();
        handler = new TokenHandler(this);
        targetContract(address(handler));
    }

    function mint(uint256 to, uint64 amount) external {
        _mint(people[to], amount % (token.MAX_MINT() + 1));
    }

    function send(uint256 from, uint256 to, uint64 amount) external {
        _transfer(people[from], people[to], amount);
    }

    /// @dev No transfer makes or loses anything, whatever its encrypted amount is.
    function invariant_balances_are_the_supply() public view {
        assertEq(_balanceOf(ALICE) + _balanceOf(BOB) + _balanceOf(CAROL), token.totalSupply());
    }

    /// @dev Each holder can read its own balance, in the token's name, and nobody else's.
    function invariant_balances_are_their_holders_to_read() public view {
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 balance = token.confidentialBalanceOf(people[i]);
            if (balance == 0) continue;
            assertTrue(acl.persistAllowed(balance, address(token)));
            for (uint256 j = 0; j < 3; ++j) {
                assertEq(acl.persistAllowed(balance, people[j]), i == j);
            }
            assertFalse(acl.isAllowedForDecryption(balance));
        }
    }

    /// @dev The handler's actions do what they are named for.
    function test_the_handler_mints_and_sends() public {
        handler.mint(0, 100);
        handler.send(0, 1, 30, true);
        handler.send(1, 2, 31, true);
        assertEq(handler.minted() + handler.sent(), 3);
        assertEq(_balanceOf(ALICE), 70);
        assertEq(_balanceOf(BOB), 30);
        invariant_balances_are_the_supply();
        invariant_balances_are_their_holders_to_read();
    }
}
