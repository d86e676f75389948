// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IFheExecutor} from "../../interfaces/IFheExecutor.sol";
import {IInputVerifier} from "../../interfaces/IInputVerifier.sol";
import {ExtraData} from "../../libraries/ExtraData.sol";
import {Handles} from "../../libraries/Handles.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {KmsTest} from "../support/KmsTest.sol";

/// @dev Encrypted inputs: who may bring which one where. This contract stands for the dApp.
contract InputsTest is KmsTest {
    address private constant USER = address(0x05e4);
    bytes32[] private list;
    bytes private proof;

    function setUp() public override {
        super.setUp();
        list.push(_inputHandle("ct", 0, 0));
        list.push(_inputHandle("ct", 1, 5));
        proof = _inputProof(list, USER, address(this), 2);
    }

    function test_input_enters_with_a_right_for_this_transaction() public {
        vm.expectEmit(address(executor));
        emit IFheExecutor.VerifyInput(address(this), list[1], USER, proof, 5, list[1]);
        assertEq(executor.verifyInput(list[1], USER, proof, _type(5)), list[1]);
        assertTrue(acl.allowedTransient(list[1], address(this)));
        assertFalse(acl.isAllowed(list[0], address(this)));
        assertEq(executor.verifyInput(list[0], USER, proof, _type(0)), list[0]);
    }

    function _foreign() private {
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
    }

    function test_taken_over_by_another_user_contract_or_chain() public {
        _foreign();
        executor.verifyInput(list[0], address(0xbad), proof, _type(0));
        vm.prank(address(0xbad));
        _foreign();
        executor.verifyInput(list[0], USER, proof, _type(0));
        vm.chainId(4242);
        vm.expectPartialRevert(Handles.ForeignChain.selector);
        executor.verifyInput(list[0], USER, proof, _type(0));
        // Even with a handle that names the other chain, the signatures do not.
        for (uint256 i = 0; i < 2; ++i) {
            list[i] = Handles.build(list[i], uint8(i), 4242, i == 0 ? 0 : 5);
        }
        vm.chainId(31337);
        bytes memory here = _inputProof(list, USER, address(this), 2);
        vm.chainId(4242);
        _foreign();
        executor.verifyInput(list[0], USER, here, _type(0));
    }

    function test_type_must_be_the_expected_one() public {
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.InputTypeMismatch.selector, 5, 0));
        executor.verifyInput(list[0], USER, proof, _type(5));
    }

    function test_handle_must_stand_at_its_place() public {
        bytes32[4] memory wrong = [
            _inputHandle("other", 0, 0), _inputHandle("ct", 1, 0), _inputHandle("ct", 2, 0), _inputHandle("ct", 0xff, 0)
        ];
        for (uint256 i = 0; i < wrong.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IInputVerifier.HandleNotInProof.selector, wrong[i]));
            executor.verifyInput(wrong[i], USER, proof, _type(0));
        }
    }

    function test_too_few_or_foreign_coprocessors() public {
        bytes memory few = _inputProof(list, USER, address(this), 1);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 1, 2));
        executor.verifyInput(list[0], USER, few, _type(0));
        coprocessorKeys[0] = 0xbad;
        bytes memory foreign = _inputProof(list, USER, address(this), 2);
        _foreign();
        executor.verifyInput(list[0], USER, foreign, _type(0));
    }

    function test_malformed_proofs() public {
        vm.expectRevert(abi.encodeWithSelector(IInputVerifier.TruncatedInputProof.selector, 0, 2));
        executor.verifyInput(list[0], USER, "", _type(0));
        for (uint256 length = 0; length < proof.length; length += 7) {
            bytes memory cut = new bytes(length);
            for (uint256 i = 0; i < length; ++i) {
                cut[i] = proof[i];
            }
            vm.expectPartialRevert(IInputVerifier.TruncatedInputProof.selector);
            executor.verifyInput(list[0], USER, cut, _type(0));
        }
        vm.expectRevert(abi.encodeWithSelector(ExtraData.InvalidExtraDataLength.selector, 1, 1));
        executor.verifyInput(list[0], USER, bytes.concat(proof, hex"01"), _type(0));
        // Version 0 written out is another message than none: it was not signed.
        _foreign();
        executor.verifyInput(list[0], USER, bytes.concat(proof, hex"00"), _type(0));
    }

    function test_unsupported_type() public {
        list[0] = _inputHandle("ct", 0, 1);
        vm.expectRevert(abi.encodeWithSelector(Handles.UnsupportedType.selector, list[0]));
        executor.verifyInput(list[0], USER, proof, _type(1));
    }

    function test_nothing_is_cached() public {
        inputVerifier.cleanTransientStorage();
        assertEq(inputVerifier.getThreshold(), 2);
        assertEq(inputVerifier.getCoprocessorSigners(), coprocessors);
    }
}
