// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {IKmsVerifier} from "../../interfaces/IKmsVerifier.sol";
import {GatewayTest} from "../support/GatewayTest.sol";

/// @dev cancel, expire, fulfil in every order.
contract OrderingsTest is GatewayTest {
    IDecryptionGateway.Request private request;
    bytes32 private requestId;

    function setUp() public override {
        super.setUp();
        (request, requestId) = _ask();
    }

    function _expectWrongState(IDecryptionGateway.State state) private {
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.WrongState.selector, requestId, state));
    }

    function test_cancel_shortens_the_deadline_and_refunds_nothing_yet() public {
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.DeadlineShortened(requestId, uint64(block.timestamp));
        dapp.cancel(request);
        (IDecryptionGateway.State state, uint64 deadline, uint256 fee) = gateway.stateOf(requestId);
        assertEq(uint8(state), uint8(IDecryptionGateway.State.Open));
        assertEq(deadline, block.timestamp);
        assertEq(fee, FEE);
        assertEq(gateway.creditOf(address(dapp)), 0);
    }

    function test_only_the_requester_cancels_and_only_before_the_deadline() public {
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.NotRequester.selector, address(this)));
        gateway.cancel(request);
        dapp.cancel(request);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.DeadlinePassed.selector, uint64(block.timestamp)));
        dapp.cancel(request);
    }

    /// @dev Whoever reads the cleartext in the mempool cannot race a cancel past it to keep answer and fee.
    function test_cancel_then_fulfil_still_pays_the_relayer() public {
        bytes memory proof = _proofFor(request, cleartexts);
        dapp.cancel(request);
        vm.expectPartialRevert(IDecryptionGateway.NotYetExpired.selector);
        gateway.expire(request);
        vm.prank(RELAYER);
        gateway.fulfill(request, cleartexts, proof);
        assertEq(gateway.creditOf(RELAYER), FEE);
        assertEq(gateway.creditOf(address(dapp)), 0);
    }

    function test_cancel_then_expire_refunds_after_the_grace() public {
        dapp.cancel(request);
        uint64 from = uint64(block.timestamp) + 300;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.NotYetExpired.selector, from));
        gateway.expire(request);
        vm.warp(from);
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.DecryptionExpired(requestId);
        gateway.expire(request);
        assertEq(gateway.creditOf(address(dapp)), FEE);
        dapp.withdraw(address(0xcafe));
        assertEq(address(0xcafe).balance, FEE);
    }

    function test_expired_is_the_end() public {
        bytes memory proof = _proofFor(request, cleartexts);
        vm.warp(request.deadline + 300);
        gateway.expire(request);
        _expectWrongState(IDecryptionGateway.State.Expired);
        gateway.fulfill(request, cleartexts, proof);
        _expectWrongState(IDecryptionGateway.State.Expired);
        gateway.expire(request);
        _expectWrongState(IDecryptionGateway.State.Expired);
        dapp.cancel(request);
        _expectWrongState(IDecryptionGateway.State.Expired);
        gateway.addFee{value: 1}(request);
        _expectWrongState(IDecryptionGateway.State.Expired);
        gateway.redeliver(request, cleartexts, GAS);
        assertEq(gateway.creditOf(address(dapp)), FEE);
    }

    function test_fulfilled_is_not_cancelled_nor_expired() public {
        _fulfill(request);
        _expectWrongState(IDecryptionGateway.State.Delivered);
        dapp.cancel(request);
        vm.warp(request.deadline + 300);
        _expectWrongState(IDecryptionGateway.State.Delivered);
        gateway.expire(request);
        _expectWrongState(IDecryptionGateway.State.Delivered);
        gateway.addFee{value: 1}(request);
    }

    function test_destroyed_context_expires_at_once() public {
        (bytes32 current, uint256[] memory secrets) = _succeed("next");
        vm.expectPartialRevert(IDecryptionGateway.NotYetExpired.selector);
        gateway.expire(request);
        bytes memory proof = _proofFor(request, cleartexts);
        verifier.destroyContext(
            request.contextId, _signList(secrets, 3, _destructionDigest(current, request.contextId))
        );
        vm.expectRevert(abi.encodeWithSelector(IKmsVerifier.DestroyedContext.selector, request.contextId));
        gateway.fulfill(request, cleartexts, proof);
        gateway.expire(request);
        assertEq(gateway.creditOf(address(dapp)), FEE);
    }

    function test_fee_can_grow_by_anyone_and_goes_with_the_rest() public {
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.FeeAdded(requestId, FEE + 5);
        gateway.addFee{value: 5}(request);
        (, uint64 deadline, uint256 fee) = gateway.stateOf(requestId);
        assertEq(deadline, request.deadline);
        assertEq(fee, FEE + 5);
        _fulfill(request);
        assertEq(gateway.creditOf(RELAYER), FEE + 5);
    }

    function test_withdraw() public {
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.NoCredit.selector, address(this)));
        gateway.withdraw(address(this));
        _fulfill(request);
        vm.prank(RELAYER);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.TransferFailed.selector, address(gateway)));
        gateway.withdraw(address(gateway));
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.Withdrawn(RELAYER, address(0xcafe), FEE);
        vm.prank(RELAYER);
        gateway.withdraw(address(0xcafe));
        assertEq(address(0xcafe).balance, FEE);
        vm.prank(RELAYER);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.NoCredit.selector, RELAYER));
        gateway.withdraw(RELAYER);
    }

    /// @dev Unanswered means unknown too: states of ids that never were.
    function test_unknown_request() public {
        request.nonce += 7;
        requestId = gateway.requestIdOf(request);
        _expectWrongState(IDecryptionGateway.State.None);
        gateway.expire(request);
        _expectWrongState(IDecryptionGateway.State.None);
        gateway.addFee{value: 1}(request);
        _expectWrongState(IDecryptionGateway.State.None);
        dapp.cancel(request);
    }
}
