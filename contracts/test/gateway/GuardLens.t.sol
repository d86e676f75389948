// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {IGuardLens} from "../../interfaces/IGuardLens.sol";
import {GatewayTest} from "../support/GatewayTest.sol";

contract GuardLensTest is GatewayTest {
    function test_request_through_its_life() public {
        (IDecryptionGateway.Request memory request,) = _ask();
        IGuardLens.RequestView memory seen = lens.viewRequest(request);
        assertEq(seen.state, 1);
        assertEq(seen.effectiveDeadline, request.deadline);
        assertEq(seen.blockTimestamp, block.timestamp);
        assertEq(seen.blockNumber, block.number);
        assertTrue(seen.contextLive);
        assertEq(seen.currentContextId, request.contextId);
        assertEq(seen.handles.length, 1);
        assertTrue(seen.handles[0].persistAllowed);
        assertFalse(seen.handles[0].allowedForDecryption);
        assertEq(seen.handles[0].keyId, 0);

        _commit(handle, keccak256("key"), keccak256("object"));
        dapp.cancel(request);
        seen = lens.viewRequest(request);
        assertEq(seen.state, 1);
        assertEq(seen.effectiveDeadline, block.timestamp);
        assertEq(seen.handles[0].keyId, keccak256("key"));
        assertEq(seen.handles[0].digest, keccak256("object"));
        assertEq(seen.handles[0].keyState, 0, "committed under a key that nobody registered");

        _fulfill(request);
        assertEq(lens.viewRequest(request).state, 3);
        request.nonce += 1;
        assertEq(lens.viewRequest(request).state, 0, "altered: unknown");
    }

    function test_context_that_is_gone() public {
        (IDecryptionGateway.Request memory request,) = _ask();
        (bytes32 current, uint256[] memory secrets) = _succeed("next");
        verifier.destroyContext(
            request.contextId, _signList(secrets, 3, _destructionDigest(current, request.contextId))
        );
        IGuardLens.RequestView memory seen = lens.viewRequest(request);
        assertFalse(seen.contextLive);
        assertEq(seen.currentContextId, current);
    }

    function test_handles_of_an_account() public {
        bytes32[] memory handles = new bytes32[](2);
        (handles[0], handles[1]) = (handle, _handle("public", 0));
        _grant(handles[1], address(this));
        acl.allowForDecryption(_one(handles[1]));
        (uint64 time, uint64 number, bytes32 current, IGuardLens.HandleView[] memory seen) =
            lens.viewHandles(address(dapp), handles);
        assertEq(time, block.timestamp);
        assertEq(number, block.number);
        assertEq(current, verifier.currentContextId());
        assertTrue(seen[0].persistAllowed);
        assertFalse(seen[0].allowedForDecryption);
        assertFalse(seen[1].persistAllowed);
        assertTrue(seen[1].allowedForDecryption);
        (,,, seen) = lens.viewHandles(address(0), handles);
        assertFalse(seen[0].persistAllowed);
    }
}
