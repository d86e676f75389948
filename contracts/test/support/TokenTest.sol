// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ConfidentialToken} from "../../examples/ConfidentialToken.sol";
import {PlainCoprocessor} from "./PlainCoprocessor.sol";

/// @dev The example token and its users.
abstract contract TokenTest is PlainCoprocessor {
    address internal constant ALICE = address(0xa11ce);
    address internal constant BOB = address(0xb0b);
    address internal constant CAROL = address(0xca401);

    ConfidentialToken internal token;
    uint256 private _inputs;

    function setUp() public virtual override {
        super.setUp();
        token = new ConfidentialToken(executor);
    }

    function _mint(address to, uint64 amount) internal {
        vm.roll(block.number + 1);
        token.mint(to, amount);
        _follow(0);
    }

    /// @dev An encrypted amount of `from` and its proof.
    function _amount(address from) internal returns (bytes32 handle, bytes memory proof) {
        bytes32[] memory handles = _one(_inputHandle(string.concat("amount ", vm.toString(++_inputs)), 0, 5));
        return (handles[0], _inputProof(handles, from, address(token), 2));
    }

    function _transfer(address from, address to, uint64 amount) internal returns (bytes32 transferred) {
        vm.roll(block.number + 1);
        (bytes32 handle, bytes memory proof) = _amount(from);
        vm.prank(from);
        transferred = token.confidentialTransfer(to, handle, proof);
        _follow(amount);
    }

    /// @dev The plain balance.
    function _balanceOf(address account) internal view returns (uint256) {
        return plain[token.confidentialBalanceOf(account)];
    }
}
