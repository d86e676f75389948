// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {ICiphertextRegistry} from "../../interfaces/ICiphertextRegistry.sol";
import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {FheType} from "../../interfaces/FheType.sol";
import {AccessControl} from "../../registry/AccessControl.sol";
import {CiphertextRegistry} from "../../registry/CiphertextRegistry.sol";
import {FheExecutor} from "../../compute/FheExecutor.sol";
import {InputVerifier} from "../../compute/InputVerifier.sol";
import {DecryptionGateway} from "../../gateway/DecryptionGateway.sol";
import {GuardLens} from "../../gateway/GuardLens.sol";
import {KeyManagement} from "../../lifecycle/KeyManagement.sol";
import {KmsVerifier} from "../../verifier/KmsVerifier.sol";
import {Handles} from "../../libraries/Handles.sol";
import {Deployment, DeploymentConfig, Deployments} from "../../script/Deployments.sol";

/// @dev A whole deployment and the signatures that the outside would make. Written apart from the contracts' own hashing: a fault there
/// must not hide here.
abstract contract KmsTest is Test {
    uint256 internal constant N = 4;
    uint256 internal constant T = 1;
    uint256 internal constant THRESHOLD = 3;
    bytes32 internal constant EPOCH = keccak256("epoch");
    address internal constant GUARDIAN = address(0x6a4d);

    uint256[] internal partyKeys;
    address[] internal parties;
    uint256[] internal coprocessorKeys;
    address[] internal coprocessors;

    AccessControl internal acl;
    FheExecutor internal executor;
    InputVerifier internal inputVerifier;
    CiphertextRegistry internal registry;
    KmsVerifier internal verifier;
    DecryptionGateway internal gateway;
    GuardLens internal lens;
    KeyManagement internal keys;

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        vm.roll(1000);
        _deploy(N, T, THRESHOLD);
    }

    function _deploy(uint256 n, uint256 t, uint256 threshold) internal {
        (partyKeys, parties) = _committee("party", n);
        (coprocessorKeys, coprocessors) = _committee("coprocessor", 3);
        DeploymentConfig memory config = DeploymentConfig({
            signers: parties,
            t: t,
            threshold: threshold,
            salt: bytes32(uint256(1)),
            coprocessors: coprocessors,
            coprocessorThreshold: 2,
            guardian: GUARDIAN,
            minFinality: 1,
            domainChainId: 0,
            domainContract: address(0)
        });
        Deployment memory made = Deployments.deploy(config, address(this), vm.getNonce(address(this)));
        acl = made.accessControl;
        executor = made.fheExecutor;
        inputVerifier = made.inputVerifier;
        registry = made.ciphertextRegistry;
        verifier = made.kmsVerifier;
        gateway = made.decryptionGateway;
        lens = made.guardLens;
        keys = made.keyManagement;
    }

    // Keys and signatures

    function _committee(string memory name, uint256 n)
        internal
        pure
        returns (uint256[] memory secrets, address[] memory signers)
    {
        secrets = new uint256[](n);
        signers = new address[](n);
        for (uint256 i = 0; i < n; ++i) {
            secrets[i] = uint256(keccak256(abi.encode(name, i)));
            signers[i] = vm.addr(secrets[i]);
        }
    }

    function _sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    function _signList(uint256[] memory secrets, uint256 count, bytes32 digest)
        internal
        pure
        returns (bytes[] memory signatures)
    {
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            signatures[i] = _sign(secrets[i], digest);
        }
    }

    function _signPacked(uint256[] memory secrets, uint256 count, bytes32 digest)
        internal
        pure
        returns (bytes memory packed)
    {
        for (uint256 i = 0; i < count; ++i) {
            packed = bytes.concat(packed, _sign(secrets[i], digest));
        }
    }

    function _domain(string memory name, uint256 chainId, address verifyingContract) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                chainId,
                verifyingContract
            )
        );
    }

    function _typed(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    // Decryptions

    function _decryptionDigest(bytes32[] memory handles, bytes memory cleartexts, bytes memory extraData)
        internal
        view
        returns (bytes32)
    {
        return _typed(
            _domain("Decryption", block.chainid, address(gateway)),
            keccak256(
                abi.encode(
                    keccak256("PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)"),
                    keccak256(abi.encodePacked(handles)),
                    keccak256(cleartexts),
                    keccak256(extraData)
                )
            )
        );
    }

    function _v3(bytes32 contextId, bytes32 requestId) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(3), contextId, EPOCH, requestId);
    }

    /// @dev Proof by the first `count` parties.
    function _proof(bytes32[] memory handles, bytes memory cleartexts, bytes memory extraData, uint256 count)
        internal
        view
        returns (bytes memory)
    {
        bytes32 digest = _decryptionDigest(handles, cleartexts, extraData);
        return abi.encodePacked(uint8(count), _signPacked(partyKeys, count, digest), extraData);
    }

    function _proofFor(IDecryptionGateway.Request memory request, bytes memory cleartexts)
        internal
        view
        returns (bytes memory)
    {
        bytes memory extraData = _v3(request.contextId, gateway.requestIdOf(request));
        return _proof(request.handles, cleartexts, extraData, THRESHOLD);
    }

    // Handles

    function _handle(string memory seed, uint8 fheType) internal view returns (bytes32) {
        return Handles.build(keccak256(bytes(seed)), 0xff, uint64(block.chainid), fheType);
    }

    /// @dev Gives `account` a lasting right, as the executor and the account itself would.
    function _grant(bytes32 handle, address account) internal {
        vm.prank(address(executor));
        acl.allowTransient(handle, account);
        vm.prank(account);
        acl.allow(handle, account);
    }

    /// @dev Writes a lasting right where the ACL keeps it, for tests in which a grant, which takes one transaction, is in the way.
    function _write(bytes32 handle, address account) internal {
        bytes32 inner = keccak256(abi.encode(handle, uint256(2)));
        vm.store(address(acl), keccak256(abi.encode(account, inner)), bytes32(uint256(1)));
        assertTrue(acl.persistAllowed(handle, account), "the ACL keeps rights elsewhere");
    }

    function _one(bytes32 handle) internal pure returns (bytes32[] memory handles) {
        handles = new bytes32[](1);
        handles[0] = handle;
    }

    // Inputs and commitments

    /// @dev Input proof by `count` coprocessors for a list of handles.
    function _inputProof(bytes32[] memory handles, address user, address target, uint256 count)
        internal
        view
        returns (bytes memory)
    {
        bytes32 digest = _typed(
            _domain("InputVerification", block.chainid, address(inputVerifier)),
            keccak256(
                abi.encode(
                    keccak256(
                        "CiphertextVerification(bytes32[] ctHandles,address userAddress,address contractAddress,uint256 contractChainId,bytes extraData)"
                    ),
                    keccak256(abi.encodePacked(handles)),
                    user,
                    target,
                    block.chainid,
                    keccak256("")
                )
            )
        );
        return
            abi.encodePacked(uint8(handles.length), uint8(count), handles, _signPacked(coprocessorKeys, count, digest));
    }

    /// @dev Handle of an input at place `index` of a list.
    function _inputHandle(string memory seed, uint8 index, uint8 fheType) internal view returns (bytes32) {
        return Handles.build(keccak256(bytes(seed)), index, uint64(block.chainid), fheType);
    }

    function _batchDigest(ICiphertextRegistry.Commitment[] memory items) internal view returns (bytes32) {
        bytes memory hashes;
        for (uint256 i = 0; i < items.length; ++i) {
            hashes = bytes.concat(
                hashes,
                keccak256(
                    abi.encode(
                        keccak256("CiphertextCommitment(bytes32 handle,bytes32 keyId,bytes32 digest)"),
                        items[i].handle,
                        items[i].keyId,
                        items[i].digest
                    )
                )
            );
        }
        return _typed(
            _domain("CiphertextRegistry", block.chainid, address(registry)),
            keccak256(
                abi.encode(
                    keccak256(
                        "CommitmentBatch(CiphertextCommitment[] items)CiphertextCommitment(bytes32 handle,bytes32 keyId,bytes32 digest)"
                    ),
                    keccak256(hashes)
                )
            )
        );
    }

    function _commit(bytes32 handle, bytes32 keyId, bytes32 digest) internal {
        ICiphertextRegistry.Commitment[] memory items = new ICiphertextRegistry.Commitment[](1);
        items[0] = ICiphertextRegistry.Commitment(handle, keyId, digest);
        registry.commit(items, _signList(coprocessorKeys, 2, _batchDigest(items)));
    }

    // Governance

    function _successionDigest(bytes32 previous, address[] memory signers, uint256 t, uint256 threshold, bytes32 salt)
        internal
        pure
        returns (bytes32)
    {
        return _typed(
            _governanceDomain(),
            keccak256(
                abi.encode(
                    keccak256(
                        "ContextSuccession(bytes32 previous,address[] signers,uint256 t,uint256 threshold,bytes32 salt)"
                    ),
                    previous,
                    keccak256(abi.encodePacked(signers)),
                    t,
                    threshold,
                    salt
                )
            )
        );
    }

    function _destructionDigest(bytes32 contextId, bytes32 destroyed) internal pure returns (bytes32) {
        return _typed(
            _governanceDomain(),
            keccak256(
                abi.encode(keccak256("ContextDestruction(bytes32 contextId,bytes32 destroyed)"), contextId, destroyed)
            )
        );
    }

    function _governanceDomain() private pure returns (bytes32) {
        return keccak256(
            abi.encode(keccak256("EIP712Domain(string name,string version)"), keccak256("KmsVerifier"), keccak256("1"))
        );
    }

    /// @dev The current committee names a successor of the same shape; returns its keys.
    function _succeed(string memory name) internal returns (bytes32 contextId, uint256[] memory secrets) {
        address[] memory signers;
        (secrets, signers) = _committee(name, N);
        bytes32 digest = _successionDigest(verifier.currentContextId(), signers, T, THRESHOLD, bytes32(0));
        contextId = verifier.nameSuccessor(
            signers, T, THRESHOLD, bytes32(0), _signList(partyKeys, N - T, digest), _signList(secrets, N - T, digest)
        );
    }

    function _type(uint8 number) internal pure returns (FheType) {
        return FheType.wrap(number);
    }
}
