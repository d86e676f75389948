// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Vm} from "forge-std/Vm.sol";
import {IFheExecutor} from "../../interfaces/IFheExecutor.sol";
import {Handles} from "../../libraries/Handles.sol";
import {KmsTest} from "./KmsTest.sol";

/// @dev A deployment whose coprocessor is played by the test: it follows the executor's events and knows the plain values.
abstract contract PlainCoprocessor is KmsTest {
    /// @dev What the coprocessor would hold.
    mapping(bytes32 handle => uint256) internal plain;

    function setUp() public virtual override {
        super.setUp();
        vm.recordLogs();
    }

    /// @dev Computes what was recorded since the last call; an input decrypts to `input`.
    function _follow(uint256 input) internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == address(executor)) _compute(logs[i].topics[0], logs[i].data, input);
        }
    }

    function _compute(bytes32 topic, bytes memory data, uint256 input) private {
        if (topic == IFheExecutor.TrivialEncrypt.selector) {
            (uint256 pt,, bytes32 result) = abi.decode(data, (uint256, uint8, bytes32));
            plain[result] = pt;
        } else if (topic == IFheExecutor.Cast.selector) {
            (bytes32 ct,, bytes32 result) = abi.decode(data, (bytes32, uint8, bytes32));
            plain[result] = _wrap(result, plain[ct]);
        } else if (topic == IFheExecutor.FheIfThenElse.selector) {
            (bytes32 control, bytes32 ifTrue, bytes32 ifFalse, bytes32 result) =
                abi.decode(data, (bytes32, bytes32, bytes32, bytes32));
            plain[result] = plain[control] == 1 ? plain[ifTrue] : plain[ifFalse];
        } else if (topic == IFheExecutor.VerifyInput.selector) {
            (,,,, bytes32 result) = abi.decode(data, (bytes32, address, bytes, uint8, bytes32));
            // A boolean ciphertext holds a boolean, whatever its maker meant by it.
            plain[result] = Handles.typeOf(result) == Handles.BOOL && input > 1 ? 1 : _wrap(result, input);
        } else {
            (bytes32 lhs, bytes32 rhs, bytes1 scalar, bytes32 result) =
                abi.decode(data, (bytes32, bytes32, bytes1, bytes32));
            plain[result] = _wrap(result, _binary(topic, plain[lhs], scalar == 0x01 ? uint256(rhs) : plain[rhs]));
        }
    }

    function _binary(bytes32 topic, uint256 lhs, uint256 rhs) private pure returns (uint256) {
        unchecked {
            if (topic == IFheExecutor.FheAdd.selector) return lhs + rhs;
            if (topic == IFheExecutor.FheSub.selector) return lhs - rhs;
        }
        if (topic == IFheExecutor.FheGe.selector) return lhs >= rhs ? 1 : 0;
        assertEq(topic, IFheExecutor.FheEq.selector, "unknown operation");
        return lhs == rhs ? 1 : 0;
    }

    /// @dev Computation is modulo the type.
    function _wrap(bytes32 result, uint256 value) private pure returns (uint256) {
        uint256 bits = Handles.bitsOf(Handles.typeOf(result));
        return bits == 256 ? value : value % (1 << bits);
    }
}
