// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {GatewayTest} from "../support/GatewayTest.sol";
import {Attacker, Requester} from "../support/Requesters.sol";

/// @dev Callbacks that do harm: to nobody but themselves.
contract CallbacksTest is GatewayTest {
    IDecryptionGateway.Request private request;
    bytes32 private requestId;
    bytes private proof;

    function setUp() public override {
        super.setUp();
        (request, requestId) = _ask();
        proof = _proofFor(request, cleartexts);
    }

    function _attack(Attacker.Attack attack) private {
        dapp.arm(attack, request, cleartexts, proof);
        vm.prank(RELAYER);
        gateway.fulfill(request, cleartexts, proof);
        assertEq(gateway.creditOf(RELAYER), FEE, "the relayer is paid whatever the callback does");
    }

    function _assertFailedThenRedelivered() private {
        _assertState(requestId, IDecryptionGateway.State.DeliveryFailed);
        assertEq(dapp.calls(), 0);
        dapp.arm(Attacker.Attack.None, request, cleartexts, proof);
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.CallbackDelivered(requestId);
        vm.prank(address(0x1234));
        gateway.redeliver(request, cleartexts, GAS);
        _assertState(requestId, IDecryptionGateway.State.Delivered);
        assertEq(dapp.calls(), 1);
    }

    function test_revert() public {
        dapp.arm(Attacker.Attack.Revert, request, cleartexts, proof);
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.CallbackFailed(requestId);
        gateway.fulfill(request, cleartexts, proof);
        _assertFailedThenRedelivered();
    }

    function test_burning_all_gas() public {
        dapp.arm(Attacker.Attack.Burn, request, cleartexts, proof);
        uint256 before = gasleft();
        gateway.fulfill(request, cleartexts, proof);
        assertLt(before - gasleft(), uint256(GAS) + 150_000, "no more than the limit is burnt");
        _assertFailedThenRedelivered();
    }

    function test_return_bomb_costs_the_relayer_nothing() public {
        _attack(Attacker.Attack.ReturnBomb);
        _assertState(requestId, IDecryptionGateway.State.Delivered);
    }

    function test_revert_bomb() public {
        _attack(Attacker.Attack.RevertBomb);
        _assertFailedThenRedelivered();
    }

    function test_reentering_finds_nothing_to_do() public {
        Attacker.Attack[5] memory attacks = [
            Attacker.Attack.Fulfill,
            Attacker.Attack.Redeliver,
            Attacker.Attack.Expire,
            Attacker.Attack.Cancel,
            Attacker.Attack.AddFee
        ];
        vm.deal(address(dapp), 1 ether);
        for (uint256 i = 0; i < attacks.length; ++i) {
            uint256 state = vm.snapshotState();
            _attack(attacks[i]);
            assertEq(dapp.calls(), 1);
            assertFalse(dapp.innerSucceeded());
            assertEq(address(dapp).balance, 1 ether);
            _assertState(requestId, IDecryptionGateway.State.Delivered);
            vm.revertToState(state);
        }
    }

    function test_reentering_redeliver_from_a_redelivery() public {
        _attack(Attacker.Attack.Revert);
        dapp.arm(Attacker.Attack.Redeliver, request, cleartexts, proof);
        gateway.redeliver(request, cleartexts, 1_000_000);
        assertEq(dapp.calls(), 1);
        assertFalse(dapp.innerSucceeded());
        _assertState(requestId, IDecryptionGateway.State.Delivered);
    }

    function test_reentering_withdraw_takes_only_own_credits() public {
        _attack(Attacker.Attack.Withdraw);
        assertEq(dapp.calls(), 1);
        assertFalse(dapp.innerSucceeded());
        assertEq(address(gateway).balance, FEE);
    }

    function test_requester_without_code_any_more() public {
        vm.etch(address(dapp), "");
        vm.prank(RELAYER);
        gateway.fulfill(request, cleartexts, proof);
        _assertState(requestId, IDecryptionGateway.State.DeliveryFailed);
    }

    function test_relayer_cannot_starve_the_callback() public {
        // Enough to get to the callback, too little to give it what it was promised.
        for (uint256 gas = 100_000; gas < 360_000; gas += 10_000) {
            (bool done,) =
                address(gateway).call{gas: gas}(abi.encodeCall(gateway.fulfill, (request, cleartexts, proof)));
            if (!done) continue;
            assertEq(dapp.calls(), 1);
            _assertState(requestId, IDecryptionGateway.State.Delivered);
            return;
        }
        fail();
    }

    function test_insufficient_gas_is_named() public {
        vm.expectPartialRevert(IDecryptionGateway.InsufficientGas.selector);
        gateway.fulfill{gas: 250_000}(request, cleartexts, proof);
    }

    function test_redeliver_rules() public {
        bytes memory why =
            abi.encodeWithSelector(IDecryptionGateway.WrongState.selector, requestId, IDecryptionGateway.State.Open);
        vm.expectRevert(why);
        gateway.redeliver(request, cleartexts, GAS);
        _attack(Attacker.Attack.Revert);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.CallbackGasTooLow.selector, GAS - 1, GAS));
        gateway.redeliver(request, cleartexts, GAS - 1);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.CleartextsMismatch.selector, requestId));
        gateway.redeliver(request, abi.encode(uint256(43)), GAS);
        // Failing again leaves it redeliverable.
        gateway.redeliver(request, cleartexts, GAS);
        _assertState(requestId, IDecryptionGateway.State.DeliveryFailed);
        dapp.arm(Attacker.Attack.None, request, cleartexts, proof);
        gateway.redeliver(request, cleartexts, 5_000_000);
        vm.expectPartialRevert(IDecryptionGateway.WrongState.selector);
        gateway.redeliver(request, cleartexts, GAS);
        assertEq(dapp.calls(), 1);
    }

    function test_callback_gets_id_and_cleartexts_from_the_gateway() public {
        Requester plain = new Requester(gateway);
        _grant(handle, address(plain));
        IDecryptionGateway.Request memory own = _next(Requester.onDecrypted.selector);
        (own.requester, own.nonce) = (address(plain), 0);
        bytes32 id = plain.ask(own.handles, own.selector, GAS, own.deadline);
        vm.expectCall(address(plain), 0, GAS, abi.encodeCall(plain.onDecrypted, (id, cleartexts)));
        _fulfill(own);
        assertEq(plain.lastId(), id);
        assertEq(plain.lastCleartexts(), cleartexts);
    }
}
