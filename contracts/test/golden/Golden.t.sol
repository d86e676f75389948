// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";
import {ICiphertextRegistry} from "../../interfaces/ICiphertextRegistry.sol";
import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {IInputVerifier} from "../../interfaces/IInputVerifier.sol";
import {IKeyManagement} from "../../interfaces/IKeyManagement.sol";
import {IKmsVerifier} from "../../interfaces/IKmsVerifier.sol";
import {KmsVerifier} from "../../verifier/KmsVerifier.sol";
import {Cleartexts} from "../../libraries/Cleartexts.sol";
import {Committee} from "../../libraries/Committee.sol";
import {ExtraData} from "../../libraries/ExtraData.sol";
import {Handles} from "../../libraries/Handles.sol";
import {Signatures} from "../../libraries/Signatures.sol";
import {Formats} from "../support/Formats.sol";

/// @dev The golden files that Rust writes: Solidity must agree with every entry.
contract GoldenTest is Test {
    using stdJson for string;

    Formats private formats;
    mapping(string => bytes4) private errors;

    function setUp() public {
        formats = new Formats();
        errors["EmptyHandles"] = Handles.EmptyHandles.selector;
        errors["UnknownVersion"] = Handles.UnknownVersion.selector;
        errors["UnknownType"] = Handles.UnknownType.selector;
        errors["UnsupportedType"] = Handles.UnsupportedType.selector;
        errors["ForeignChain"] = Handles.ForeignChain.selector;
        errors["TooManyBits"] = Handles.TooManyBits.selector;
        errors["InvalidExtraDataLength"] = ExtraData.InvalidExtraDataLength.selector;
        errors["UnknownExtraDataVersion"] = ExtraData.UnknownExtraDataVersion.selector;
        errors["InvalidCommitteeSize"] = IKmsVerifier.InvalidCommitteeSize.selector;
        errors["InvalidThreshold"] = IKmsVerifier.InvalidThreshold.selector;
        errors["ZeroSigner"] = Committee.ZeroSigner.selector;
        errors["DuplicateSigner"] = Committee.DuplicateSigner.selector;
        errors["BadLength"] = Cleartexts.InvalidCleartextsLength.selector;
        errors["OutOfRange"] = Cleartexts.CleartextOutOfRange.selector;
        errors["HighS"] = Signatures.InvalidSignature.selector;
        errors["BadV"] = Signatures.InvalidSignature.selector;
        errors["Unrecoverable"] = Signatures.InvalidSignature.selector;
    }

    function _read(string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("tests/golden/", name, ".json"));
    }

    function _entry(uint256 i) private pure returns (string memory) {
        return string.concat("[", vm.toString(i), "]");
    }

    /// @dev Path of a field of an entry, or "" past the last entry.
    function _at(uint256 i, string memory field) private pure returns (string memory) {
        return string.concat(_entry(i), ".", field);
    }

    function _count(string memory json) private view returns (uint256 n) {
        while (vm.keyExistsJson(json, _at(n, "name"))) ++n;
        assertGt(n, 0);
    }

    /// @dev Expects the entry's error, if it has one.
    function _expect(string memory json, uint256 i) private returns (bool succeeds) {
        succeeds = !vm.keyExistsJson(json, _at(i, "error"));
        if (!succeeds) {
            string memory label = json.readString(_at(i, "error"));
            assertNotEq(errors[label], bytes4(0), label);
            vm.expectPartialRevert(errors[label]);
        }
    }

    function test_handles() public {
        string memory json = _read("handle");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            bytes32[] memory handles = json.readBytes32Array(_at(i, "handles"));
            vm.chainId(json.readUintOr(_at(i, "chainId"), 31337));
            bool good = _expect(json, i);
            formats.checkRequest(handles);
            if (!good) continue;
            uint256[] memory types = json.readUintArray(_at(i, "expect.types"));
            uint256[] memory indexes = json.readUintArray(_at(i, "expect.indexes"));
            uint256 bits;
            for (uint256 j = 0; j < handles.length; ++j) {
                assertEq(Handles.typeOf(handles[j]), types[j]);
                assertEq(Handles.indexOf(handles[j]), indexes[j]);
                bits += formats.check(handles[j]);
            }
            assertEq(bits, json.readUint(_at(i, "expect.bits")));
        }
    }

    function test_request_ids() public {
        string memory json = _read("request_id");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            IDecryptionGateway.Request memory request = IDecryptionGateway.Request({
                requester: json.readAddress(_at(i, "request.requester")),
                nonce: uint64(json.readUint(_at(i, "request.nonce"))),
                handles: json.readBytes32Array(_at(i, "request.handles")),
                selector: bytes4(json.readBytes(_at(i, "request.selector"))),
                gasLimit: uint32(json.readUint(_at(i, "request.gasLimit"))),
                finality: uint16(json.readUint(_at(i, "request.finality"))),
                deadline: uint64(json.readUint(_at(i, "request.deadline"))),
                contextId: json.readBytes32(_at(i, "request.contextId"))
            });
            address gateway = json.readAddress(_at(i, "gateway"));
            if (gateway.code.length == 0) {
                deployCodeTo("DecryptionGateway", abi.encode(address(1), address(2), 0, address(3)), gateway);
            }
            // Chain ids above 64 bits are refused by the test environment: the hash alone is compared.
            uint256 chainId = json.readUint(_at(i, "chainId"));
            if (chainId <= type(uint64).max) {
                vm.chainId(chainId);
                assertEq(IDecryptionGateway(gateway).requestIdOf(request), json.readBytes32(_at(i, "expect")));
            }
            assertEq(keccak256(abi.encode(chainId, gateway, request)), json.readBytes32(_at(i, "expect")));
        }
    }

    function test_extra_data() public {
        string memory json = _read("extra_data");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            bytes memory data = json.readBytes(_at(i, "bytes"));
            bool good = _expect(json, i);
            ExtraData.Fields memory fields = formats.parseExtraData(data);
            if (!good) continue;
            assertEq(fields.version, json.readUint(_at(i, "expect.version")));
            assertEq(fields.contextId, json.readBytes32(_at(i, "expect.contextId")));
            assertEq(fields.epochId, json.readBytes32(_at(i, "expect.epochId")));
            assertEq(fields.requestId, json.readBytes32(_at(i, "expect.requestId")));
        }
    }

    function test_cleartexts() public {
        string memory json = _read("cleartexts");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            uint256[] memory types = json.readUintArray(_at(i, "types"));
            bytes32[] memory handles = new bytes32[](types.length);
            for (uint256 j = 0; j < types.length; ++j) {
                handles[j] = Handles.build(bytes32(j), 0xff, 31337, uint8(types[j]));
            }
            bytes memory cleartexts = vm.keyExistsJson(json, _at(i, "values"))
                ? abi.encodePacked(json.readBytes32Array(_at(i, "values")))
                : json.readBytes(_at(i, "bytes"));
            bool good = _expect(json, i);
            formats.checkCleartexts(handles, cleartexts);
            if (good) assertEq(cleartexts, json.readBytes(_at(i, "expect")));
        }
    }

    function test_contexts() public {
        string memory json = _read("context");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            address[] memory signers = json.readAddressArray(_at(i, "signers"));
            uint256 t = json.readUint(_at(i, "t"));
            uint256 threshold = json.readUint(_at(i, "threshold"));
            bytes32 previous = json.readBytes32(_at(i, "previous"));
            bytes32 salt = json.readBytes32(_at(i, "salt"));
            bool good = _expect(json, i);
            formats.checkCommittee(signers, t, threshold);
            if (good) {
                assertEq(formats.committeeId(previous, signers, t, threshold, salt), json.readBytes32(_at(i, "expect")));
            }
        }
    }

    /// @dev Proofs of one signer, so that what is malformed in the bytes is the only thing that can go wrong.
    function test_proofs() public {
        string memory json = _read("proof");
        address[] memory signers = new address[](1);
        signers[0] = address(0xdead);
        KmsVerifier verifier = new KmsVerifier(1, address(1), signers, 0, 1, bytes32(0));
        IInputVerifier inputs = IInputVerifier(deployCode("InputVerifier", abi.encode(signers, 1)));
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            bytes memory proof = json.readBytes(_at(i, "bytes"));
            bool input = keccak256(bytes(json.readString(_at(i, "kind")))) == keccak256("input");
            vm.expectPartialRevert(_proofError(json, i, input));
            if (input) {
                inputs.verifyInput(IInputVerifier.ContextUserInputs(address(1), address(2)), _firstInput(proof), proof);
            } else {
                verifier.verifyHashed(0, 0, proof);
            }
        }
    }

    /// @dev The first handle of an input proof, so that the handle is not what is wrong; another one if the proof has none.
    function _firstInput(bytes memory proof) private pure returns (bytes32 handle) {
        if (proof.length < 34 || proof[0] == 0) return Handles.build(bytes32(0), 0, 31337, 0);
        for (uint256 i = 0; i < 32; ++i) {
            handle |= bytes32(proof[2 + i]) >> (8 * i);
        }
    }

    /// @dev A well-formed proof gets as far as its context (unknown) or its signers (foreign).
    function _proofError(string memory json, uint256 i, bool input) private view returns (bytes4) {
        if (vm.keyExistsJson(json, _at(i, "expect"))) {
            bytes memory extraData = json.readBytes(_at(i, "expect.extraData"));
            bool named = !input && extraData.length > 1;
            return named ? IKmsVerifier.UnknownContext.selector : Signatures.ForeignSigner.selector;
        }
        bytes32 label = keccak256(bytes(json.readString(_at(i, "error"))));
        if (label == keccak256("Empty") || label == keccak256("Truncated")) {
            return input ? IInputVerifier.TruncatedInputProof.selector : IKmsVerifier.TruncatedProof.selector;
        }
        if (label == keccak256("NoHandles")) return IInputVerifier.HandleNotInProof.selector;
        if (label == keccak256("NoSignatures")) {
            // Rust names it in the parser; here it is a count below the threshold, or a context that is looked up before.
            bool named = !input && json.readBytes(_at(i, "bytes")).length > 2;
            return named ? IKmsVerifier.UnknownContext.selector : Signatures.ThresholdNotReached.selector;
        }
        return errors[json.readString(_at(i, "error"))];
    }

    function test_statements() public {
        string memory json = _read("eip712");
        uint256 count = _count(json);
        for (uint256 i = 0; i < count; ++i) {
            bytes32 statement = keccak256(bytes(json.readString(_at(i, "statement"))));
            if (statement == keccak256("signature")) {
                _signature(json, i);
            } else if (!_offChain(statement)) {
                bytes32 digest = _digest(json, i, statement);
                assertEq(digest, json.readBytes32(_at(i, "expect.digest")), json.readString(_at(i, "name")));
            }
        }
    }

    /// @dev Statements that no contract checks: see OffChain.t.sol.
    function _offChain(bytes32 statement) private pure returns (bool) {
        return statement == keccak256("UserDecryptResponseVerification")
            || statement == keccak256("UserDecryptRequestVerification")
            || statement == keccak256("DelegatedUserDecryptRequestVerification")
            || statement == keccak256("DecryptionReceipt");
    }

    function _digest(string memory json, uint256 i, bytes32 statement) private returns (bytes32) {
        if (statement == keccak256("ContextSuccession")) {
            return _verifier(1, address(1))
                .successionDigest(
                    json.readBytes32(_at(i, "message.previous")),
                    json.readAddressArray(_at(i, "message.signers")),
                    json.readUint(_at(i, "message.t")),
                    json.readUint(_at(i, "message.threshold")),
                    json.readBytes32(_at(i, "message.salt"))
                );
        }
        if (statement == keccak256("ContextDestruction")) {
            return _verifier(1, address(1))
                .destructionDigest(
                    json.readBytes32(_at(i, "message.contextId")), json.readBytes32(_at(i, "message.destroyed"))
                );
        }
        uint256 chainId = json.readUint(_at(i, "domain.chainId"));
        address target = json.readAddress(_at(i, "domain.verifyingContract"));
        vm.chainId(chainId);
        if (statement == keccak256("PublicDecryptVerification")) {
            return _verifier(chainId, target)
                .decryptionDigest(
                    json.readBytes32Array(_at(i, "message.ctHandles")),
                    json.readBytes(_at(i, "message.decryptedResult")),
                    json.readBytes(_at(i, "message.extraData"))
                );
        }
        address[] memory signers = new address[](1);
        signers[0] = address(0xdead);
        if (statement == keccak256("CiphertextVerification")) {
            deployCodeTo("InputVerifier", abi.encode(signers, 1), target);
            return IInputVerifier(target)
                .inputDigest(
                    IInputVerifier.ContextUserInputs({
                    userAddress: json.readAddress(_at(i, "message.userAddress")),
                    contractAddress: json.readAddress(_at(i, "message.contractAddress"))
                }),
                    abi.encodePacked(json.readBytes32Array(_at(i, "message.ctHandles"))),
                    json.readBytes(_at(i, "message.extraData"))
                );
        }
        if (statement == keccak256("CommitmentBatch")) {
            deployCodeTo("CiphertextRegistry", abi.encode(signers, 1), target);
            return ICiphertextRegistry(target).batchDigest(_items(json, i));
        }
        if (statement == keccak256("KeygenVerification")) {
            deployCodeTo("KeyManagement", abi.encode(address(1)), target);
            return IKeyManagement(target)
                .keygenDigest(
                    json.readUint(_at(i, "message.prepKeygenId")),
                    uint256(json.readBytes32(_at(i, "message.keyId"))),
                    _keyDigests(json, i),
                    json.readBytes(_at(i, "message.extraData"))
                );
        }
        return 0;
    }

    function _verifier(uint256 chainId, address target) private returns (KmsVerifier) {
        address[] memory signers = new address[](1);
        signers[0] = address(0xdead);
        return new KmsVerifier(chainId, target, signers, 0, 1, bytes32(0));
    }

    function _items(string memory json, uint256 i)
        private
        view
        returns (ICiphertextRegistry.Commitment[] memory items)
    {
        uint256 n;
        while (vm.keyExistsJson(json, _at(i, string.concat("message.items[", vm.toString(n), "]")))) ++n;
        items = new ICiphertextRegistry.Commitment[](n);
        for (uint256 j = 0; j < n; ++j) {
            string memory path = _at(i, string.concat("message.items[", vm.toString(j), "]."));
            items[j] = ICiphertextRegistry.Commitment({
                handle: json.readBytes32(string.concat(path, "handle")),
                keyId: json.readBytes32(string.concat(path, "keyId")),
                digest: json.readBytes32(string.concat(path, "digest"))
            });
        }
    }

    function _keyDigests(string memory json, uint256 i)
        private
        view
        returns (IKeyManagement.KeyDigest[] memory digests)
    {
        uint256 n;
        while (vm.keyExistsJson(json, _at(i, string.concat("message.keyDigests[", vm.toString(n), "]")))) ++n;
        digests = new IKeyManagement.KeyDigest[](n);
        for (uint256 j = 0; j < n; ++j) {
            string memory path = _at(i, string.concat("message.keyDigests[", vm.toString(j), "]."));
            digests[j] = IKeyManagement.KeyDigest({
                keyType: uint8(json.readUint(string.concat(path, "keyType"))),
                digest: json.readBytes(string.concat(path, "digest"))
            });
        }
    }

    /// @dev Both counting functions see the same signer, or reject.
    function _signature(string memory json, uint256 i) private {
        bytes32 digest = json.readBytes32(_at(i, "digest"));
        bytes[] memory list = new bytes[](1);
        list[0] = json.readBytes(_at(i, "signature"));
        address[] memory signers = new address[](1);
        signers[0] = vm.keyExistsJson(json, _at(i, "expect")) ? json.readAddress(_at(i, "expect.signer")) : address(1);
        _expect(json, i);
        formats.countPacked(digest, list[0], signers);
        _expect(json, i);
        formats.countList(digest, list, signers);
    }
}
