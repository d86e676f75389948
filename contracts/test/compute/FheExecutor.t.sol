// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FheType} from "../../interfaces/FheType.sol";
import {IFheExecutor} from "../../interfaces/IFheExecutor.sol";
import {IFHEVMExecutor} from "@fhevm/solidity/lib/Impl.sol";
import {Handles} from "../../libraries/Handles.sol";
import {KmsTest} from "../support/KmsTest.sol";

contract FheExecutorTest is KmsTest {
    bytes32 private a;
    bytes32 private b;

    function setUp() public override {
        super.setUp();
        a = executor.trivialEncrypt(1, _type(5));
        b = executor.trivialEncrypt(2, _type(5));
        acl.allow(a, address(this));
        acl.allow(b, address(this));
    }

    function _unsupported(uint8 t) private {
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.UnsupportedOperandType.selector, t));
    }

    function test_results_are_well_formed_and_granted() public {
        bytes32 sum = executor.fheAdd(a, b, 0x00);
        assertEq(Handles.typeOf(sum), 5);
        assertEq(Handles.indexOf(sum), 0xff);
        assertEq(Handles.chainIdOf(sum), block.chainid);
        assertEq(uint8(uint256(sum)), 0);
        assertTrue(acl.allowedTransient(sum, address(this)));
        assertFalse(acl.persistAllowed(sum, address(this)));
        assertEq(Handles.typeOf(executor.fheSub(a, b, 0x00)), 5);
        assertEq(Handles.typeOf(executor.fheEq(a, b, 0x00)), 0);
        assertEq(Handles.typeOf(executor.fheGe(a, b, 0x00)), 0);
        assertEq(Handles.typeOf(executor.cast(a, _type(2))), 2);
        bytes32 control = executor.trivialEncrypt(1, _type(0));
        assertEq(Handles.typeOf(executor.fheIfThenElse(control, a, b)), 5);
    }

    /// @dev Equal calls in one block give equal handles, so the second one's event is known. Coprocessors compute from nothing else.
    function test_every_operation_is_announced_with_all_that_it_takes() public {
        bytes32 control = executor.trivialEncrypt(1, _type(0));
        bytes32 plain = bytes32(uint256(7));
        bytes32[7] memory results = [
            executor.fheAdd(a, plain, 0x01),
            executor.fheSub(a, b, 0x00),
            executor.fheEq(a, b, 0x00),
            executor.fheGe(b, a, 0x00),
            executor.fheIfThenElse(control, a, b),
            executor.cast(a, _type(2)),
            executor.trivialEncrypt(300, _type(3))
        ];
        _announces();
        emit IFheExecutor.FheAdd(address(this), a, plain, 0x01, results[0]);
        executor.fheAdd(a, plain, 0x01);
        _announces();
        emit IFheExecutor.FheSub(address(this), a, b, 0x00, results[1]);
        executor.fheSub(a, b, 0x00);
        _announces();
        emit IFheExecutor.FheEq(address(this), a, b, 0x00, results[2]);
        executor.fheEq(a, b, 0x00);
        _announces();
        emit IFheExecutor.FheGe(address(this), b, a, 0x00, results[3]);
        executor.fheGe(b, a, 0x00);
        _announces();
        emit IFheExecutor.FheIfThenElse(address(this), control, a, b, results[4]);
        executor.fheIfThenElse(control, a, b);
        _announces();
        emit IFheExecutor.Cast(address(this), a, 2, results[5]);
        executor.cast(a, _type(2));
        _announces();
        emit IFheExecutor.TrivialEncrypt(address(this), 300, 3, results[6]);
        executor.trivialEncrypt(300, _type(3));
    }

    function _announces() private {
        vm.expectEmit(address(executor));
    }

    function test_handles_differ_by_operation_inputs_order_and_scalar() public {
        bytes32[7] memory results = [
            executor.fheAdd(a, b, 0x00),
            executor.fheAdd(b, a, 0x00),
            executor.fheSub(a, b, 0x00),
            executor.fheAdd(a, bytes32(uint256(2)), 0x01),
            executor.fheAdd(a, bytes32(uint256(3)), 0x01),
            executor.cast(a, _type(4)),
            executor.cast(a, _type(6))
        ];
        for (uint256 i = 0; i < results.length; ++i) {
            for (uint256 j = 0; j < i; ++j) {
                assertNotEq(results[i] >> 88, results[j] >> 88);
            }
        }
        assertEq(executor.fheAdd(a, b, 0x00), results[0], "equal within a block");
        vm.roll(block.number + 1);
        vm.setBlockhash(block.number - 1, keccak256("a block"));
        assertNotEq(executor.fheAdd(a, b, 0x00), results[0], "another block, another handle");
    }

    function test_only_who_holds_a_right_computes() public {
        address stranger = address(0xbad);
        vm.startPrank(stranger);
        bytes memory why = abi.encodeWithSelector(IFheExecutor.HandleNotAllowed.selector, a, stranger);
        vm.expectRevert(why);
        executor.fheAdd(a, b, 0x00);
        vm.expectRevert(why);
        executor.fheAdd(a, bytes32(0), 0x01);
        vm.expectRevert(why);
        executor.cast(a, _type(4));
        bytes32 own = executor.trivialEncrypt(9, _type(5));
        vm.expectRevert(why);
        executor.fheEq(own, a, 0x00);
        bytes32 control = executor.trivialEncrypt(1, _type(0));
        vm.expectRevert(why);
        executor.fheIfThenElse(control, a, own);
        vm.expectRevert(why);
        executor.fheIfThenElse(control, own, a);
        vm.expectRevert(why);
        executor.fheIfThenElse(a, own, own);
    }

    function test_types_must_fit() public {
        bytes32 small = executor.trivialEncrypt(1, _type(2));
        bytes32 boolean = executor.trivialEncrypt(1, _type(0));
        bytes32 account = executor.trivialEncrypt(1, _type(7));
        bytes32 wide = executor.trivialEncrypt(1, _type(8));
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.IncompatibleTypes.selector, 5, 2));
        executor.fheAdd(a, small, 0x00);
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.IncompatibleTypes.selector, 5, 2));
        executor.fheIfThenElse(boolean, a, small);
        bytes32[3] memory unfit = [boolean, account, wide];
        for (uint256 i = 0; i < unfit.length; ++i) {
            _unsupported(Handles.typeOf(unfit[i]));
            executor.fheAdd(unfit[i], unfit[i], 0x00);
            _unsupported(Handles.typeOf(unfit[i]));
            executor.fheSub(unfit[i], unfit[i], 0x00);
            _unsupported(Handles.typeOf(unfit[i]));
            executor.fheGe(unfit[i], unfit[i], 0x00);
            executor.fheEq(unfit[i], unfit[i], 0x00);
        }
        _unsupported(5);
        executor.fheIfThenElse(a, a, b);
        _unsupported(7);
        executor.cast(account, _type(5));
        uint8[5] memory targets = [0, 1, 7, 9, 255];
        for (uint256 i = 0; i < targets.length; ++i) {
            _unsupported(targets[i]);
            executor.cast(a, _type(targets[i]));
        }
        _unsupported(1);
        executor.trivialEncrypt(0, _type(1));
        assertEq(Handles.typeOf(executor.cast(boolean, _type(5))), 5);
    }

    function test_plain_values_must_fit() public {
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.PlaintextOutOfRange.selector, 2, 0));
        executor.trivialEncrypt(2, _type(0));
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.PlaintextOutOfRange.selector, 256, 2));
        executor.trivialEncrypt(256, _type(2));
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.PlaintextOutOfRange.selector, uint256(1) << 160, 7));
        executor.trivialEncrypt(1 << 160, _type(7));
        executor.trivialEncrypt(type(uint256).max, _type(8));
        executor.trivialEncrypt(type(uint160).max, _type(7));
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.PlaintextOutOfRange.selector, uint256(1) << 64, 5));
        executor.fheAdd(a, bytes32(uint256(1) << 64), 0x01);
    }

    function test_scalar_byte() public {
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.InvalidScalarByte.selector, bytes1(0x02)));
        executor.fheAdd(a, b, 0x02);
    }

    /// @dev The rest of the ecosystem's executor, called through the ecosystem's own interface.
    function test_other_operations_say_that_they_are_unsupported() public {
        IFHEVMExecutor eco = IFHEVMExecutor(address(executor));
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.UnsupportedOperation.selector, eco.fheMul.selector));
        eco.fheMul(a, b, 0x00);
        vm.expectRevert(abi.encodeWithSelector(IFheExecutor.UnsupportedOperation.selector, eco.fheNot.selector));
        eco.fheNot(a);
        assertEq(eco.getInputVerifierAddress(), address(inputVerifier));
    }

    /// @dev Selectors are the ecosystem's.
    function test_selectors() public pure {
        assertEq(IFheExecutor.fheAdd.selector, IFHEVMExecutor.fheAdd.selector);
        assertEq(IFheExecutor.fheSub.selector, IFHEVMExecutor.fheSub.selector);
        assertEq(IFheExecutor.fheEq.selector, IFHEVMExecutor.fheEq.selector);
        assertEq(IFheExecutor.fheGe.selector, IFHEVMExecutor.fheGe.selector);
        assertEq(IFheExecutor.cast.selector, IFHEVMExecutor.cast.selector);
        assertEq(IFheExecutor.trivialEncrypt.selector, IFHEVMExecutor.trivialEncrypt.selector);
        assertEq(IFheExecutor.fheIfThenElse.selector, IFHEVMExecutor.fheIfThenElse.selector);
        assertEq(IFheExecutor.verifyInput.selector, IFHEVMExecutor.verifyInput.selector);
    }
}
