// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {KmsTest} from "./KmsTest.sol";
import {Attacker, Requester} from "./Requesters.sol";

/// @dev A dApp, and what happens around its requests.
abstract contract GatewayTest is KmsTest {
    uint256 internal constant FEE = 1 ether;
    uint32 internal constant GAS = 200_000;
    address internal constant RELAYER = address(0x4e1a);

    Attacker internal dapp;
    bytes32 internal handle;
    bytes internal cleartexts = abi.encode(uint256(42));

    function setUp() public virtual override {
        super.setUp();
        dapp = new Attacker(gateway);
        handle = _handle("answer", 5);
        _grant(handle, address(dapp));
        vm.deal(address(this), 1000 ether);
    }

    function _deadline() internal view returns (uint64) {
        return uint64(block.timestamp + 1 hours);
    }

    /// @dev The request that the dApp's next call makes.
    function _next(bytes4 selector) internal view returns (IDecryptionGateway.Request memory) {
        return IDecryptionGateway.Request({
            requester: address(dapp),
            nonce: gateway.nonceOf(address(dapp)),
            handles: _one(handle),
            selector: selector,
            gasLimit: GAS,
            finality: 1,
            deadline: _deadline(),
            contextId: verifier.currentContextId()
        });
    }

    function _ask() internal returns (IDecryptionGateway.Request memory request, bytes32 requestId) {
        return _ask(Requester.onDecrypted.selector);
    }

    function _ask(bytes4 selector) internal returns (IDecryptionGateway.Request memory request, bytes32 requestId) {
        request = _next(selector);
        requestId = dapp.ask{value: FEE}(request.handles, selector, GAS, request.deadline);
    }

    function _fulfill(IDecryptionGateway.Request memory request) internal {
        bytes memory proof = _proofFor(request, cleartexts);
        vm.prank(RELAYER);
        gateway.fulfill(request, cleartexts, proof);
    }

    function _assertState(bytes32 requestId, IDecryptionGateway.State expected) internal view {
        (IDecryptionGateway.State state,,) = gateway.stateOf(requestId);
        assertEq(uint8(state), uint8(expected));
    }
}
