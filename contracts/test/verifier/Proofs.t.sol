// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KmsTest} from "../support/KmsTest.sol";
import {SignatureCounters} from "../support/ReferenceVerifier.sol";
import {IKmsVerifier} from "../../interfaces/IKmsVerifier.sol";
import {ExtraData} from "../../libraries/ExtraData.sol";
import {Signatures} from "../../libraries/Signatures.sol";

/// @dev The table of malformed proofs: what each one gets.
contract ProofsTest is KmsTest {
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    bytes32[] private handles;
    bytes private cleartexts;
    bytes private extraData;
    bytes32 private digest;

    function setUp() public override {
        super.setUp();
        handles.push(_handle("a", 5));
        handles.push(_handle("b", 0));
        cleartexts = abi.encode(uint256(7), true);
        extraData = abi.encodePacked(uint8(1), verifier.currentContextId());
        digest = _decryptionDigest(handles, cleartexts, extraData);
    }

    function _verify(bytes memory proof) private view {
        assertTrue(verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, proof));
    }

    /// @dev Signatures of the parties with these numbers, in this order.
    function _by(uint8[4] memory order, uint256 count) private view returns (bytes memory proof) {
        proof = abi.encodePacked(uint8(count));
        for (uint256 i = 0; i < count; ++i) {
            proof = bytes.concat(proof, _sign(partyKeys[order[i]], digest));
        }
        proof = bytes.concat(proof, extraData);
    }

    function _rejected(bytes memory proof, bytes memory why) private {
        vm.expectRevert(why);
        verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, proof);
    }

    function _custom(bytes memory signature) private view returns (bytes memory) {
        return
            abi.encodePacked(uint8(3), _sign(partyKeys[0], digest), signature, _sign(partyKeys[1], digest), extraData);
    }

    function test_quorum_in_any_order_verifies() public view {
        _verify(_by([0, 1, 2, 3], 3));
        _verify(_by([3, 1, 0, 2], 3));
        _verify(_by([2, 3, 1, 0], 4));
    }

    function test_bitmap_names_the_signers_counted() public view {
        bytes32 handlesHash = keccak256(abi.encodePacked(handles));
        (bytes32 contextId, uint256 bitmap) =
            verifier.verifyHashed(handlesHash, keccak256(cleartexts), _by([3, 1, 0, 2], 4));
        assertEq(contextId, verifier.currentContextId());
        assertEq(bitmap, 11, "the fourth signature is not looked at");
    }

    function test_too_few_signatures() public {
        _rejected("", abi.encodeWithSelector(IKmsVerifier.TruncatedProof.selector, 0, 1));
        _rejected(_by([0, 0, 0, 0], 0), abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 0, 3));
        _rejected(_by([0, 0, 0, 0], 1), abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 1, 3));
        _rejected(_by([0, 1, 0, 0], 2), abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 2, 3));
    }

    function test_duplicates_never_count_twice() public {
        _rejected(_by([0, 0, 0, 0], 4), abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 1, 3));
        _rejected(_by([0, 1, 1, 0], 4), abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 2, 3));
        _verify(_by([0, 0, 1, 2], 4));
    }

    function test_foreign_signer_first_middle_last() public {
        (uint256 secret, address stranger) = (0xbad, vm.addr(0xbad));
        bytes memory foreign = _sign(secret, digest);
        bytes memory own = abi.encodePacked(_sign(partyKeys[0], digest), _sign(partyKeys[1], digest));
        _rejected(
            abi.encodePacked(uint8(3), foreign, own, extraData),
            abi.encodeWithSelector(Signatures.ForeignSigner.selector, 0, stranger)
        );
        _rejected(_custom(foreign), abi.encodeWithSelector(Signatures.ForeignSigner.selector, 1, stranger));
        _rejected(
            abi.encodePacked(uint8(3), own, foreign, extraData),
            abi.encodeWithSelector(Signatures.ForeignSigner.selector, 2, stranger)
        );
        // Past the threshold nothing is looked at.
        _verify(abi.encodePacked(uint8(4), own, _sign(partyKeys[2], digest), foreign, extraData));
    }

    function test_high_s_is_rejected() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(partyKeys[2], digest);
        bytes memory twin = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        _rejected(_custom(twin), abi.encodeWithSelector(Signatures.InvalidSignature.selector, 1));
    }

    function test_v_must_be_27_or_28() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(partyKeys[2], digest);
        uint8[5] memory wrong = [0, 1, 26, 29, 255];
        for (uint256 i = 0; i < wrong.length; ++i) {
            _rejected(
                _custom(abi.encodePacked(r, s, wrong[i])),
                abi.encodeWithSelector(Signatures.InvalidSignature.selector, 1)
            );
        }
        _rejected(
            _custom(abi.encodePacked(r, s, v - 27)), abi.encodeWithSelector(Signatures.InvalidSignature.selector, 1)
        );
    }

    function test_zero_and_overflowing_scalars() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(partyKeys[2], digest);
        bytes memory why = abi.encodeWithSelector(Signatures.InvalidSignature.selector, 1);
        _rejected(_custom(abi.encodePacked(bytes32(0), s, v)), why);
        _rejected(_custom(abi.encodePacked(r, bytes32(0), v)), why);
        _rejected(_custom(abi.encodePacked(bytes32(ORDER), s, v)), why);
        _rejected(_custom(abi.encodePacked(type(uint256).max, s, v)), why);
        _rejected(_custom(new bytes(65)), why);
    }

    function test_64_byte_signatures_do_not_parse() public {
        bytes memory packed = abi.encodePacked(uint8(3));
        for (uint256 i = 0; i < 3; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(partyKeys[i], digest);
            packed = abi.encodePacked(packed, r, uint256(s) | (uint256(v - 27) << 255));
        }
        vm.expectRevert();
        verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, abi.encodePacked(packed, extraData));
    }

    function test_truncated_at_every_byte() public {
        bytes memory whole = _by([0, 1, 2, 3], 3);
        for (uint256 length = 0; length < whole.length; ++length) {
            bytes memory cut = new bytes(length);
            for (uint256 i = 0; i < length; ++i) {
                cut[i] = whole[i];
            }
            vm.expectRevert();
            verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, cut);
        }
        _rejected(
            abi.encodePacked(uint8(3), new bytes(100)),
            abi.encodeWithSelector(IKmsVerifier.TruncatedProof.selector, 101, 196)
        );
    }

    function test_trailing_bytes_are_rejected() public {
        _rejected(
            bytes.concat(_by([0, 1, 2, 3], 3), hex"00"),
            abi.encodeWithSelector(ExtraData.InvalidExtraDataLength.selector, 1, 34)
        );
    }

    function test_order_of_handles_is_signed() public {
        bytes memory proof = _by([0, 1, 2, 3], 3);
        (handles[0], handles[1]) = (handles[1], handles[0]);
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, proof);
    }

    /// @dev A flipped bit gives another digest, so a stranger's address (or none) is recovered.
    function testFuzz_one_flipped_bit_anywhere_in_what_is_signed(uint256 bit) public {
        bytes memory proof = _by([0, 1, 2, 3], 3);
        bit = bit % (8 * 65 * 3 + 8 * 64 + 8 * 64 + 8 * 32);
        if (bit < 8 * 64) {
            cleartexts[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        } else if (bit < 2 * 8 * 64) {
            bit -= 8 * 64;
            handles[bit / 256] ^= bytes32(1 << (bit % 256));
        } else {
            // Signatures or context id. A flip in an unread v bit does not exist: every byte counts.
            bit -= 2 * 8 * 64;
            uint256 place = 1 + bit / 8;
            if (place > 195) place += 1;
            proof[place] ^= bytes1(uint8(1 << (bit % 8)));
        }
        vm.expectRevert();
        verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, proof);
    }

    function test_every_version_of_extra_data() public view {
        bytes32 contextId = verifier.currentContextId();
        bytes[3] memory versions = [
            abi.encodePacked(uint8(1), contextId),
            abi.encodePacked(uint8(2), contextId, EPOCH),
            abi.encodePacked(uint8(3), contextId, EPOCH, keccak256("request"))
        ];
        for (uint256 i = 0; i < versions.length; ++i) {
            _verify(_proof(handles, cleartexts, versions[i], 3));
        }
    }

    function test_version_zero_is_the_current_context_and_signed_as_empty() public {
        bytes memory empty = _proof(handles, cleartexts, "", 3);
        _verify(empty);
        _verify(bytes.concat(empty, hex"00"));
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, _proof(handles, cleartexts, hex"00", 3));
        _succeed("next");
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        verifier.verifyDecryptionEIP712KMSSignatures(handles, cleartexts, empty);
    }

    function test_wrong_lengths_and_unknown_versions() public {
        for (uint256 version = 0; version <= 3; ++version) {
            for (uint256 length = 1; length <= 98; ++length) {
                if (length == 1 + 32 * version) continue;
                extraData = new bytes(length);
                extraData[0] = bytes1(uint8(version));
                _rejected(
                    _by([0, 1, 2, 3], 3),
                    abi.encodeWithSelector(ExtraData.InvalidExtraDataLength.selector, version, length)
                );
            }
        }
        extraData = abi.encodePacked(uint8(4), verifier.currentContextId());
        _rejected(_by([0, 1, 2, 3], 3), abi.encodeWithSelector(ExtraData.UnknownExtraDataVersion.selector, 4));
    }

    function test_unknown_context() public {
        extraData = abi.encodePacked(uint8(1), keccak256("nobody"));
        _rejected(
            _by([0, 1, 2, 3], 3), abi.encodeWithSelector(IKmsVerifier.UnknownContext.selector, keccak256("nobody"))
        );
    }

    /// @dev Assembly and plain Solidity agree on every list of signatures: result or revert, to the byte.
    function testFuzz_fast_loop_equals_plain_loop(uint256 seed, uint8 nSigners, uint8 nSignatures, uint8 threshold)
        public
    {
        SignatureCounters counters = new SignatureCounters();
        uint256 n = bound(nSigners, 1, 16);
        (uint256[] memory secrets, address[] memory signers) = _committee("fuzz", n);
        bytes memory packed;
        for (uint256 i = 0; i < bound(nSignatures, 0, 20); ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, i)));
            bytes memory signature = _sign(secrets[(dice >> 8) % n], digest);
            if (dice % 32 == 0) signature[(dice >> 16) % 65] ^= bytes1(uint8(1 << ((dice >> 24) % 8)));
            if (dice % 32 == 1) signature = _sign(dice, digest);
            packed = bytes.concat(packed, signature);
        }
        uint256 needed = bound(threshold, 1, n);
        (bool fastOk, bytes memory fast) =
            address(counters).staticcall(abi.encodeCall(counters.fast, (digest, packed, signers, needed)));
        (bool plainOk, bytes memory plain) =
            address(counters).staticcall(abi.encodeCall(counters.plain, (digest, packed, signers, needed)));
        assertEq(fastOk, plainOk);
        assertEq(fast, plain);
    }

    function test_255_signers() public {
        SignatureCounters counters = new SignatureCounters();
        (uint256[] memory secrets, address[] memory signers) = _committee("large", 255);
        bytes memory packed = bytes.concat(_sign(secrets[254], digest), _sign(secrets[0], digest));
        assertEq(counters.fast(digest, packed, signers, 2), (1 << 254) | 1);
    }

    function test_ecosystem_views() public {
        (bytes1 fields, string memory name, string memory version, uint256 chainId, address target,,) =
            verifier.eip712Domain();
        assertEq(fields, hex"0f");
        assertEq(name, "Decryption");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(target, address(gateway));
        (address[] memory signers, uint256 threshold) = verifier.getContextSignersAndThresholdFromExtraData(extraData);
        assertEq(signers, parties);
        assertEq(threshold, 3);
        (signers, threshold) = verifier.getContextSignersAndThresholdFromExtraData("");
        assertEq(signers, parties);
        assertEq(verifier.getKmsSigners(), parties);
        assertEq(verifier.getThreshold(), 3);
        vm.expectRevert(abi.encodeWithSelector(ExtraData.UnknownExtraDataVersion.selector, 9));
        verifier.getContextSignersAndThresholdFromExtraData(hex"09");
    }
}
