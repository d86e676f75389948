// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {GatewayTest} from "../support/GatewayTest.sol";
import {Attacker} from "../support/Requesters.sol";

/// @dev Drives one gateway at random and keeps a book of its own.
contract GatewayHandler is Test {
    IDecryptionGateway internal immutable gateway;
    Attacker internal immutable dapp;
    InvariantsTest internal immutable owner;

    IDecryptionGateway.Request[] internal requests;

    constructor(IDecryptionGateway gateway_, Attacker dapp_) {
        (gateway, dapp, owner) = (gateway_, dapp_, InvariantsTest(msg.sender));
    }

    function count() external view returns (uint256) {
        return requests.length;
    }

    function requestAt(uint256 i) external view returns (IDecryptionGateway.Request memory) {
        return requests[i];
    }

    function ask(uint96 fee) external {
        vm.deal(address(this), fee);
        requests.push(owner.ask{value: fee}());
    }

    function addFee(uint256 i, uint96 fee) external {
        vm.deal(address(this), fee);
        gateway.addFee{value: fee}(_pick(i));
    }

    function fulfill(uint256 i, uint8 attack) external {
        IDecryptionGateway.Request memory request = _pick(i);
        bytes memory proof = owner.proofFor(request);
        Attacker.Attack chosen = Attacker.Attack(attack % 11);
        dapp.arm(chosen, request, owner.answer(), proof);
        gateway.fulfill(request, owner.answer(), proof);
    }

    function redeliver(uint256 i) external {
        gateway.redeliver(_pick(i), owner.answer(), 1_000_000);
    }

    function cancel(uint256 i) external {
        dapp.cancel(_pick(i));
    }

    function expire(uint256 i) external {
        gateway.expire(_pick(i));
    }

    function withdrawOwn() external {
        gateway.withdraw(address(0xcafe));
    }

    function withdrawDapp() external {
        dapp.withdraw(address(0xcafe));
    }

    function wait(uint16 time) external {
        vm.warp(block.timestamp + time);
    }

    function _pick(uint256 i) private view returns (IDecryptionGateway.Request memory) {
        return requests[i % requests.length];
    }
}

contract InvariantsTest is GatewayTest {
    GatewayHandler private handler;
    mapping(bytes32 => uint8) private seen;

    function setUp() public override {
        super.setUp();
        handler = new GatewayHandler(gateway, dapp);
        targetContract(address(handler));
    }

    function ask() external payable returns (IDecryptionGateway.Request memory request) {
        request = _next(dapp.onDecrypted.selector);
        dapp.ask{value: msg.value}(request.handles, request.selector, GAS, request.deadline);
    }

    function proofFor(IDecryptionGateway.Request memory request) external view returns (bytes memory) {
        return _proofFor(request, cleartexts);
    }

    function answer() external view returns (bytes memory) {
        return cleartexts;
    }

    /// @dev Credits and the fees of open requests are the balance, always.
    function invariant_credits_and_open_fees_are_the_balance() public view {
        uint256 sum = gateway.creditOf(address(handler)) + gateway.creditOf(address(dapp));
        for (uint256 i = 0; i < handler.count(); ++i) {
            (,, uint256 fee) = gateway.stateOf(gateway.requestIdOf(handler.requestAt(i)));
            sum += fee;
        }
        assertEq(sum, address(gateway).balance);
    }

    /// @dev States only go forward; only between delivered and failed there is a way from the later to the earlier.
    function invariant_states_go_forward() public {
        for (uint256 i = 0; i < handler.count(); ++i) {
            bytes32 id = gateway.requestIdOf(handler.requestAt(i));
            (IDecryptionGateway.State state, uint64 deadline,) = gateway.stateOf(id);
            uint8 last = seen[id];
            uint8 now_ = uint8(state);
            assertTrue(state != IDecryptionGateway.State.None);
            if (last == uint8(IDecryptionGateway.State.Expired)) assertEq(now_, last);
            if (last == uint8(IDecryptionGateway.State.Delivered)) assertEq(now_, last);
            if (last == uint8(IDecryptionGateway.State.DeliveryFailed)) assertGe(now_, 3);
            if (last == uint8(IDecryptionGateway.State.DeliveryFailed)) assertLe(now_, 4);
            if (state == IDecryptionGateway.State.Open) assertLe(deadline, handler.requestAt(i).deadline);
            seen[id] = now_;
        }
    }
}
