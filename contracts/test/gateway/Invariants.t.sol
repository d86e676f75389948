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
    mapping(bytes32 => IDecryptionGateway.State) private _last;
    mapping(IDecryptionGateway.State => uint256) public reached;
    /// @dev A state followed one that it must not follow. Kept here, because what an invariant writes is thrown away.
    bool public wentBack;

    modifier followed() {
        _;
        for (uint256 i = 0; i < requests.length; ++i) {
            bytes32 id = gateway.requestIdOf(requests[i]);
            (IDecryptionGateway.State state,,) = gateway.stateOf(id);
            if (state == _last[id]) continue;
            if (!_follows(_last[id], state)) wentBack = true;
            ++reached[state];
            _last[id] = state;
        }
    }

    constructor(IDecryptionGateway gateway_, Attacker dapp_) {
        (gateway, dapp, owner) = (gateway_, dapp_, InvariantsTest(msg.sender));
    }

    function count() external view returns (uint256) {
        return requests.length;
    }

    function requestAt(uint256 i) external view returns (IDecryptionGateway.Request memory) {
        return requests[i];
    }

    function ask(uint96 fee) external followed {
        vm.deal(address(this), fee);
        requests.push(owner.ask{value: fee}());
    }

    function addFee(uint256 i, uint96 fee) external followed {
        vm.deal(address(this), fee);
        gateway.addFee{value: fee}(_pick(i));
    }

    function fulfill(uint256 i, uint8 attack) external followed {
        IDecryptionGateway.Request memory request = _pick(i);
        bytes memory proof = owner.proofFor(request);
        Attacker.Attack chosen = Attacker.Attack(attack % 11);
        dapp.arm(chosen, request, owner.answer(), proof);
        gateway.fulfill(request, owner.answer(), proof);
    }

    /// @dev Delivers again, to a callback that means well or one that fails again.
    function redeliver(uint256 i, bool fails) external followed {
        IDecryptionGateway.Request memory request = _pick(i);
        dapp.arm(fails ? Attacker.Attack.Revert : Attacker.Attack.None, request, owner.answer(), "");
        gateway.redeliver(request, owner.answer(), 1_000_000);
    }

    function cancel(uint256 i) external followed {
        dapp.cancel(_pick(i));
    }

    function expire(uint256 i) external followed {
        gateway.expire(_pick(i));
    }

    function withdrawOwn() external followed {
        gateway.withdraw(address(0xcafe));
    }

    function withdrawDapp() external followed {
        dapp.withdraw(address(0xcafe));
    }

    function wait(uint16 time) external followed {
        vm.warp(block.timestamp + time);
    }

    function _pick(uint256 i) private view returns (IDecryptionGateway.Request memory) {
        return requests[i % requests.length];
    }

    /// @dev One step of the handler: open; answered, delivered or not; or expired. Later, a delivery can only succeed.
    function _follows(IDecryptionGateway.State from, IDecryptionGateway.State to) private pure returns (bool) {
        if (from == IDecryptionGateway.State.None) return to == IDecryptionGateway.State.Open;
        if (from == IDecryptionGateway.State.Open) return to > IDecryptionGateway.State.Open;
        return from == IDecryptionGateway.State.DeliveryFailed && to == IDecryptionGateway.State.Delivered;
    }
}

contract InvariantsTest is GatewayTest {
    GatewayHandler private handler;

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

    /// @dev States only go forward, and an open request's deadline never grows.
    function invariant_states_go_forward() public view {
        assertFalse(handler.wentBack());
        for (uint256 i = 0; i < handler.count(); ++i) {
            IDecryptionGateway.Request memory request = handler.requestAt(i);
            (IDecryptionGateway.State state, uint64 deadline,) = gateway.stateOf(gateway.requestIdOf(request));
            assertTrue(state != IDecryptionGateway.State.None);
            if (state == IDecryptionGateway.State.Open) assertLe(deadline, request.deadline);
        }
    }

    /// @dev The handler's actions do what they are named for: each state that a request with a callback can have is reached.
    function test_the_handler_reaches_every_state() public {
        for (uint256 i = 0; i < 3; ++i) {
            handler.ask(1 ether);
        }
        handler.fulfill(0, 0);
        handler.fulfill(1, 1);
        assertEq(handler.reached(IDecryptionGateway.State.DeliveryFailed), 1);
        handler.redeliver(1, true);
        handler.redeliver(1, false);
        handler.cancel(2);
        handler.wait(300);
        handler.expire(2);
        assertEq(handler.reached(IDecryptionGateway.State.Open), 3);
        assertEq(handler.reached(IDecryptionGateway.State.Delivered), 2);
        assertEq(handler.reached(IDecryptionGateway.State.Expired), 1);
        assertFalse(handler.wentBack());
        handler.withdrawOwn();
        handler.withdrawDapp();
        assertEq(address(0xcafe).balance, 3 ether);
    }
}
