// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {DecryptionGateway} from "../../gateway/DecryptionGateway.sol";
import {Handles} from "../../libraries/Handles.sol";
import {GatewayTest} from "../support/GatewayTest.sol";
import {Requester} from "../support/Requesters.sol";

/// @dev What may be asked.
contract RequestTest is GatewayTest {
    function _rejected(bytes32[] memory handles, bytes memory why) private {
        vm.expectRevert(why);
        dapp.ask(handles, bytes4(0), 0, _deadline());
    }

    function test_request_is_an_event_with_everything_in_it() public {
        IDecryptionGateway.Request memory request = _next(Requester.onDecrypted.selector);
        bytes32 expected = keccak256(abi.encode(block.chainid, address(gateway), request));
        vm.expectEmit(address(gateway));
        emit IDecryptionGateway.DecryptionRequested(expected, address(dapp), request, FEE);
        (, bytes32 requestId) = _ask();
        assertEq(requestId, expected);
        assertEq(gateway.requestIdOf(request), expected);
        (IDecryptionGateway.State state, uint64 deadline, uint256 fee) = gateway.stateOf(requestId);
        assertEq(uint8(state), uint8(IDecryptionGateway.State.Open));
        assertEq(deadline, request.deadline);
        assertEq(fee, FEE);
    }

    function test_equal_requests_have_different_ids() public {
        (, bytes32 first) = _ask();
        (, bytes32 second) = _ask();
        assertNotEq(first, second);
    }

    function test_same_content_on_another_chain_is_another_request() public {
        IDecryptionGateway.Request memory request = _next(bytes4(0));
        bytes32 here = gateway.requestIdOf(request);
        vm.chainId(4242);
        assertNotEq(gateway.requestIdOf(request), here);
    }

    function test_malformed_handles() public {
        _rejected(new bytes32[](0), abi.encodeWithSelector(Handles.EmptyHandles.selector));
        bytes32 bad = handle | bytes32(uint256(1));
        _rejected(_one(bad), abi.encodeWithSelector(Handles.UnknownVersion.selector, bad));
        bad = _handle("t", 84);
        _rejected(_one(bad), abi.encodeWithSelector(Handles.UnknownType.selector, bad));
        for (uint8 t = 9; t <= 83; ++t) {
            bad = _handle("t", t);
            _rejected(_one(bad), abi.encodeWithSelector(Handles.UnsupportedType.selector, bad));
        }
        bad = _handle("t", 1);
        _rejected(_one(bad), abi.encodeWithSelector(Handles.UnsupportedType.selector, bad));
        bad = Handles.build(keccak256("c"), 0xff, uint64(block.chainid + 1), 5);
        _rejected(_one(bad), abi.encodeWithSelector(Handles.ForeignChain.selector, bad, block.chainid + 1));
    }

    /// @dev Larger ids than 64 bits, which no handle can name, are refused by the test environment itself.
    function test_every_bit_of_a_chain_id_counts() public {
        uint64 large = (uint64(1) << 63) | 1;
        vm.chainId(large);
        bytes32 own = Handles.build(keccak256("c"), 0xff, large, 5);
        _grant(own, address(dapp));
        dapp.ask(_one(own), bytes4(0), 0, _deadline());
        for (uint256 bit = 0; bit < 64; ++bit) {
            uint64 other = large ^ uint64(1 << bit);
            bytes32 foreign = Handles.build(keccak256("c"), 0xff, other, 5);
            _rejected(_one(foreign), abi.encodeWithSelector(Handles.ForeignChain.selector, foreign, other));
        }
    }

    function test_2048_bits_exactly_and_one_boolean_more() public {
        bytes32[] memory handles = new bytes32[](8);
        for (uint256 i = 0; i < 8; ++i) {
            handles[i] = _handle(vm.toString(i), 8);
            _grant(handles[i], address(dapp));
        }
        dapp.ask(handles, bytes4(0), 0, _deadline());
        bytes32[] memory more = new bytes32[](9);
        for (uint256 i = 0; i < 8; ++i) {
            more[i] = handles[i];
        }
        more[8] = _handle("bool", 0);
        _grant(more[8], address(dapp));
        _rejected(more, abi.encodeWithSelector(Handles.TooManyBits.selector, 2050));
        _rejected(new bytes32[](1025), abi.encodeWithSelector(Handles.TooManyBits.selector, 2050));
    }

    function test_permission() public {
        bytes32 foreign = _handle("foreign", 5);
        _rejected(
            _one(foreign),
            abi.encodeWithSelector(IDecryptionGateway.DecryptionNotAllowed.selector, foreign, address(dapp))
        );
        // A transient right is not enough.
        vm.prank(address(executor));
        acl.allowTransient(foreign, address(dapp));
        _rejected(
            _one(foreign),
            abi.encodeWithSelector(IDecryptionGateway.DecryptionNotAllowed.selector, foreign, address(dapp))
        );
        // Publicly decryptable is.
        _grant(foreign, address(this));
        acl.allowForDecryption(_one(foreign));
        dapp.ask(_one(foreign), bytes4(0), 0, _deadline());
    }

    function test_finality() public {
        bytes4 none;
        uint16[4] memory known = [uint16(1), 1000, 0xfffe, 0xffff];
        _grant(handle, address(this));
        for (uint256 i = 0; i < known.length; ++i) {
            gateway.requestDecryption(_one(handle), none, 0, known[i], _deadline());
        }
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.FinalityTooLow.selector, 0, 1));
        gateway.requestDecryption(_one(handle), none, 0, 0, _deadline());
        uint16[2] memory unknown = [uint16(1001), 0xfffd];
        for (uint256 i = 0; i < unknown.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.UnknownFinality.selector, unknown[i]));
            gateway.requestDecryption(_one(handle), none, 0, unknown[i], _deadline());
        }
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.UnknownFinality.selector, 2000));
        new DecryptionGateway(acl, verifier, 2000, GUARDIAN);
    }

    function test_deadline() public {
        uint64 from = uint64(block.timestamp + 60);
        uint64 to = uint64(block.timestamp + 30 days);
        dapp.ask(_one(handle), bytes4(0), 0, from);
        dapp.ask(_one(handle), bytes4(0), 0, to);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.DeadlineOutOfRange.selector, from - 1, from, to));
        dapp.ask(_one(handle), bytes4(0), 0, from - 1);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.DeadlineOutOfRange.selector, to + 1, from, to));
        dapp.ask(_one(handle), bytes4(0), 0, to + 1);
    }

    function test_callback_terms() public {
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.CallbackGasTooHigh.selector, 10_000_001, 10_000_000));
        dapp.ask(_one(handle), Requester.onDecrypted.selector, 10_000_001, _deadline());
        address user = address(0x5e4);
        _grant(handle, user);
        vm.startPrank(user);
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.RequesterWithoutCode.selector, user));
        gateway.requestDecryption(_one(handle), Requester.onDecrypted.selector, 1, 1, _deadline());
        gateway.requestDecryption(_one(handle), bytes4(0), 0, 1, _deadline());
    }

    function test_emergency_stop_pauses_new_requests_only() public {
        (IDecryptionGateway.Request memory first,) = _ask();
        (IDecryptionGateway.Request memory second,) = _ask();
        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.NotGuardian.selector, address(this)));
        gateway.pause();
        vm.prank(GUARDIAN);
        gateway.pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        dapp.ask(_one(handle), bytes4(0), 0, _deadline());

        gateway.addFee{value: 1}(first);
        _fulfill(first);
        dapp.cancel(second);
        vm.warp(block.timestamp + 301);
        gateway.expire(second);
        vm.prank(RELAYER);
        gateway.withdraw(RELAYER);
        assertEq(RELAYER.balance, FEE + 1);

        vm.expectRevert(abi.encodeWithSelector(IDecryptionGateway.NotGuardian.selector, address(this)));
        gateway.unpause();
        vm.prank(GUARDIAN);
        gateway.unpause();
        _ask();
    }

    function test_fees_too_large_for_their_field() public {
        vm.deal(address(this), type(uint256).max);
        bytes memory why = abi.encodeWithSelector(IDecryptionGateway.FeeTooHigh.selector, uint256(1) << 184);
        vm.expectRevert(why);
        dapp.ask{value: 1 << 184}(_one(handle), bytes4(0), 0, _deadline());
        (IDecryptionGateway.Request memory request,) = _ask();
        vm.expectRevert(why);
        gateway.addFee{value: (1 << 184) - FEE}(request);
    }
}
