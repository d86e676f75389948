// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {GatewayTest} from "../support/GatewayTest.sol";
import {Requester} from "../support/Requesters.sol";

/// @dev Keeps no cleartexts: storing 32 KB alone would take more than a transaction.
contract Counter is Requester {
    constructor(IDecryptionGateway gateway) Requester(gateway) {}

    function onDecrypted(bytes32 requestId, bytes calldata) external override {
        lastId = requestId;
        ++calls;
    }
}

/// @dev The largest request there is: 1,024 booleans, 2,048 bits. One transaction may use 2^24 gas.
contract LargeTest is GatewayTest {
    uint256 private constant TRANSACTION_GAS = 1 << 24;
    uint32 private constant CALLBACK_GAS = 10_000_000;
    Counter private plain;

    /// @dev A transaction of its own, as large as one may be. Also its floor for calldata (EIP-7623) must fit.
    function _execute(address from, address to, bytes memory data) private returns (uint256 used) {
        uint256 tokens = 0;
        for (uint256 i = 0; i < data.length; ++i) {
            tokens += data[i] == 0 ? 1 : 4;
        }
        uint256 intrinsic = 21_000 + 4 * tokens;
        vm.prank(from);
        (bool done,) = to.call{gas: TRANSACTION_GAS - intrinsic}(data);
        assertTrue(done);
        used = vm.lastCallGas().gasTotalUsed;
        if (used < 21_000 + 10 * tokens) used = 21_000 + 10 * tokens;
        assertLt(used, TRANSACTION_GAS);
    }

    /// forge-config: default.isolate = true
    function test_1024_booleans_with_the_largest_callback_fit_a_transaction() public {
        bytes32[] memory handles = new bytes32[](1024);
        bytes memory answers;
        plain = new Counter(gateway);
        for (uint256 i = 0; i < handles.length; ++i) {
            handles[i] = _handle(vm.toString(i), 0);
            answers = bytes.concat(answers, bytes32(i % 2));
            // 1,024 grants are another matter.
            _write(handles[i], address(plain));
        }
        IDecryptionGateway.Request memory request = IDecryptionGateway.Request({
            requester: address(plain),
            nonce: 0,
            handles: handles,
            selector: Requester.onDecrypted.selector,
            gasLimit: CALLBACK_GAS,
            finality: 1,
            deadline: _deadline(),
            contextId: verifier.currentContextId()
        });
        uint256 asked = _execute(
            address(this),
            address(plain),
            abi.encodeCall(plain.ask, (handles, request.selector, CALLBACK_GAS, request.deadline))
        );
        _assertState(gateway.requestIdOf(request), IDecryptionGateway.State.Open);

        bytes memory proof = _proofFor(request, answers);
        uint256 answered =
            _execute(RELAYER, address(gateway), abi.encodeCall(gateway.fulfill, (request, answers, proof)));
        assertEq(plain.calls(), 1);
        emit log_named_uint("requestDecryption", asked);
        emit log_named_uint("fulfill", answered);
    }
}
