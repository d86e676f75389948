// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IKeyManagement} from "../../interfaces/IKeyManagement.sol";
import {ExtraData} from "../../libraries/ExtraData.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {KmsTest} from "../support/KmsTest.sol";

contract KeyManagementTest is KmsTest {
    uint256 private constant PREP = 77;
    bytes32 private constant KEY = keccak256("key");
    IKeyManagement.KeyDigest[] private digests;
    bytes private extraData;

    function setUp() public override {
        super.setUp();
        for (uint8 i = 0; i < 4; ++i) {
            digests.push(IKeyManagement.KeyDigest(i, abi.encode(keccak256(abi.encode("part", i)))));
        }
        extraData = abi.encodePacked(uint8(2), verifier.currentContextId(), EPOCH);
    }

    function _digest(bytes32 keyId) private view returns (bytes32) {
        bytes memory hashes;
        for (uint256 i = 0; i < digests.length; ++i) {
            hashes = bytes.concat(
                hashes,
                keccak256(
                    abi.encode(
                        keccak256("KeyDigest(uint8 keyType,bytes digest)"),
                        digests[i].keyType,
                        keccak256(digests[i].digest)
                    )
                )
            );
        }
        return _typed(
            _domain("KeyManagement", block.chainid, address(keys)),
            keccak256(
                abi.encode(
                    keccak256(
                        "KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)KeyDigest(uint8 keyType,bytes digest)"
                    ),
                    PREP,
                    uint256(keyId),
                    keccak256(hashes),
                    keccak256(extraData)
                )
            )
        );
    }

    function _register(bytes32 keyId, uint256 count) private {
        keys.registerKey(PREP, uint256(keyId), digests, extraData, _signList(partyKeys, count, _digest(keyId)));
    }

    function _expectRejected(bytes memory why) private {
        bytes[] memory signatures = _signList(partyKeys, 3, _digest(KEY));
        vm.expectRevert(why);
        keys.registerKey(PREP, uint256(KEY), digests, extraData, signatures);
    }

    function test_quorum_registers_the_active_key() public {
        assertEq(keys.keygenDigest(PREP, uint256(KEY), digests, extraData), _digest(KEY));
        bytes32 current = verifier.currentContextId();
        bytes[] memory signatures = _signList(partyKeys, 3, _digest(KEY));
        vm.expectEmit(address(keys));
        emit IKeyManagement.KeyRegistered(KEY, current, EPOCH, digests);
        vm.prank(address(0xabc));
        keys.registerKey(PREP, uint256(KEY), digests, extraData, signatures);
        (bytes32 keyId, bytes32 contextId, bytes32 epochId) = keys.activeKey();
        assertEq(keyId, KEY);
        assertEq(contextId, current);
        assertEq(epochId, EPOCH);
        IKeyManagement.KeyDigest[] memory stored;
        IKeyManagement.KeyState state;
        (state, contextId, epochId, stored) = keys.keyOf(KEY);
        assertEq(uint8(state), uint8(IKeyManagement.KeyState.Active));
        assertEq(abi.encode(stored), abi.encode(digests));
        assertEq(uint8(keys.keyState(keccak256("none"))), 0);
    }

    function test_next_key_deactivates_the_one_before() public {
        _register(KEY, 3);
        bytes32 next = keccak256("next");
        _register(next, 4);
        assertEq(uint8(keys.keyState(KEY)), uint8(IKeyManagement.KeyState.Deactivated));
        assertEq(uint8(keys.keyState(next)), uint8(IKeyManagement.KeyState.Active));
        _expectRejected(abi.encodeWithSelector(IKeyManagement.InvalidKeyId.selector, uint256(KEY)));
    }

    function test_signatures_are_needed() public {
        bytes[] memory signatures = _signList(partyKeys, 2, _digest(KEY));
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 2, 3));
        keys.registerKey(PREP, uint256(KEY), digests, extraData, signatures);
        signatures = _signList(partyKeys, 3, _digest(KEY));
        digests[0].digest[0] ^= 0x01;
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        keys.registerKey(PREP, uint256(KEY), digests, extraData, signatures);
    }

    function test_extra_data_names_epoch_and_current_context() public {
        bytes32 old = verifier.currentContextId();
        extraData = abi.encodePacked(uint8(1), old);
        _expectRejected(abi.encodeWithSelector(IKeyManagement.ExtraDataNotEpochal.selector));
        extraData = abi.encodePacked(uint8(2), old);
        _expectRejected(abi.encodeWithSelector(ExtraData.InvalidExtraDataLength.selector, 2, 33));
        (bytes32 current,) = _succeed("next");
        extraData = abi.encodePacked(uint8(2), old, EPOCH);
        _expectRejected(abi.encodeWithSelector(IKeyManagement.NotCurrentContext.selector, old, current));
    }

    function test_digests_are_well_formed() public {
        digests[2].digest = hex"01";
        _expectRejected(abi.encodeWithSelector(IKeyManagement.InvalidKeyDigest.selector, 2));
        digests[2] = digests[1];
        _expectRejected(abi.encodeWithSelector(IKeyManagement.InvalidKeyDigest.selector, 2));
        digests[2].keyType = 4;
        _expectRejected(abi.encodeWithSelector(IKeyManagement.InvalidKeyDigest.selector, 2));
        delete digests;
        _expectRejected(abi.encodeWithSelector(IKeyManagement.InvalidKeyDigest.selector, 0));
    }

    function test_key_zero() public {
        bytes[] memory signatures = _signList(partyKeys, 3, _digest(0));
        vm.expectRevert(abi.encodeWithSelector(IKeyManagement.InvalidKeyId.selector, 0));
        keys.registerKey(PREP, 0, digests, extraData, signatures);
    }
}
