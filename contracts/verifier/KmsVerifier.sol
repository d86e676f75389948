// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IKmsVerifier} from "../interfaces/IKmsVerifier.sol";
import {Committee} from "../libraries/Committee.sol";
import {ExtraData} from "../libraries/ExtraData.sol";
import {Signatures} from "../libraries/Signatures.sol";
import {SignerTable} from "../libraries/SignerTable.sol";

/// @title Committees and what they signed
/// @notice The deployer names the genesis context, in the constructor, and has no power after it: see `nameSuccessor`.
contract KmsVerifier is IKmsVerifier {
    /// @dev One slot. `n` = 0: no such context.
    struct Context {
        address table;
        uint8 n;
        uint8 t;
        uint8 threshold;
        bool destroyed;
    }

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant PUBLIC_DECRYPT_TYPE =
        keccak256("PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)");
    bytes32 private constant SUCCESSION_TYPE =
        keccak256("ContextSuccession(bytes32 previous,address[] signers,uint256 t,uint256 threshold,bytes32 salt)");
    bytes32 private constant DESTRUCTION_TYPE = keccak256("ContextDestruction(bytes32 contextId,bytes32 destroyed)");
    /// @dev Without chain and contract: what committees say about committees holds on every host chain.
    bytes32 private constant GOVERNANCE_DOMAIN = keccak256(
        abi.encode(keccak256("EIP712Domain(string name,string version)"), keccak256("KmsVerifier"), keccak256("1"))
    );

    bytes32 private immutable _decryptionDomain;
    uint256 private immutable _domainChainId;
    address private immutable _domainContract;

    /// @inheritdoc IKmsVerifier
    bytes32 public currentContextId;
    mapping(bytes32 contextId => Context) private _contexts;

    /// @param domainChainId chain id of the canonical decryption domain.
    /// @param domainContract verifying contract of the canonical decryption domain.
    /// @param signers genesis context, in order.
    /// @param t parties that may be malicious.
    /// @param threshold signatures that make a decryption valid.
    /// @param salt tells apart committees that are otherwise equal.
    constructor(
        uint256 domainChainId,
        address domainContract,
        address[] memory signers,
        uint256 t,
        uint256 threshold,
        bytes32 salt
    ) {
        if (domainContract == address(0)) revert ZeroDomainContract();
        _domainChainId = domainChainId;
        _domainContract = domainContract;
        _decryptionDomain =
            keccak256(abi.encode(DOMAIN_TYPE, keccak256("Decryption"), keccak256("1"), domainChainId, domainContract));
        Committee.check(signers, t, threshold);
        _create(bytes32(0), signers, t, threshold, salt);
    }

    /// @inheritdoc IKmsVerifier
    function nameSuccessor(
        address[] calldata signers,
        uint256 t,
        uint256 threshold,
        bytes32 salt,
        bytes[] calldata currentSignatures,
        bytes[] calldata successorSignatures
    ) external returns (bytes32 contextId) {
        Committee.check(signers, t, threshold);
        bytes32 previous = currentContextId;
        bytes32 digest = successionDigest(previous, signers, t, threshold, salt);
        _requireAgreement(previous, digest, currentSignatures);
        contextId = _create(previous, signers, t, threshold, salt);
        _requireAgreement(contextId, digest, successorSignatures);
    }

    /// @inheritdoc IKmsVerifier
    function destroyContext(bytes32 destroyed, bytes[] calldata signatures) external {
        bytes32 currentId = currentContextId;
        if (destroyed == currentId) revert CurrentContext(destroyed);
        _live(destroyed);
        bytes32 digest = destructionDigest(currentId, destroyed);
        _requireAgreement(currentId, digest, signatures);
        _contexts[destroyed].destroyed = true;
        emit ContextDestroyed(destroyed, currentId);
    }

    /// @inheritdoc IKmsVerifier
    function verifyDecryptionEIP712KMSSignatures(
        bytes32[] calldata handlesList,
        bytes calldata decryptedResult,
        bytes calldata decryptionProof
    ) external view returns (bool) {
        _verify(keccak256(abi.encodePacked(handlesList)), keccak256(decryptedResult), decryptionProof);
        return true;
    }

    /// @inheritdoc IKmsVerifier
    function verifyHashed(bytes32 handlesHash, bytes32 resultHash, bytes calldata decryptionProof)
        external
        view
        returns (bytes32, uint256)
    {
        return _verify(handlesHash, resultHash, decryptionProof);
    }

    /// @inheritdoc IKmsVerifier
    function requireQuorum(bytes32 contextId, bytes32 digest, bytes[] calldata signatures) external view {
        Context memory context = _live(contextId);
        Signatures.requireList(digest, signatures, SignerTable.read(context.table, context.n), context.threshold);
    }

    /// @inheritdoc IKmsVerifier
    function contextOf(bytes32 contextId) external view returns (ContextView memory) {
        Context memory context = _existing(contextId);
        return ContextView({
            contextId: contextId,
            signers: SignerTable.read(context.table, context.n),
            t: context.t,
            threshold: context.threshold,
            destroyed: context.destroyed
        });
    }

    /// @inheritdoc IKmsVerifier
    function isLive(bytes32 contextId) external view returns (bool) {
        Context memory context = _contexts[contextId];
        return context.n != 0 && !context.destroyed;
    }

    /// @inheritdoc IKmsVerifier
    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        return (hex"0f", "Decryption", "1", _domainChainId, _domainContract, bytes32(0), new uint256[](0));
    }

    /// @inheritdoc IKmsVerifier
    function getContextSignersAndThresholdFromExtraData(bytes calldata extraData)
        external
        view
        returns (address[] memory signers, uint256 threshold)
    {
        ExtraData.Fields memory fields = ExtraData.parse(extraData);
        Context memory context = _live(fields.version == 0 ? currentContextId : fields.contextId);
        return (SignerTable.read(context.table, context.n), context.threshold);
    }

    /// @inheritdoc IKmsVerifier
    function getKmsSigners() external view returns (address[] memory) {
        Context memory context = _contexts[currentContextId];
        return SignerTable.read(context.table, context.n);
    }

    /// @inheritdoc IKmsVerifier
    function getThreshold() external view returns (uint256) {
        return _contexts[currentContextId].threshold;
    }

    /// @inheritdoc IKmsVerifier
    function decryptionDigest(bytes32[] calldata handlesList, bytes calldata decryptedResult, bytes calldata extraData)
        external
        view
        returns (bytes32)
    {
        return _decryptionDigest(
            keccak256(abi.encodePacked(handlesList)),
            keccak256(decryptedResult),
            ExtraData.parse(extraData).version,
            extraData
        );
    }

    /// @inheritdoc IKmsVerifier
    function successionDigest(bytes32 previous, address[] calldata signers, uint256 t, uint256 threshold, bytes32 salt)
        public
        pure
        returns (bytes32)
    {
        return _governanceDigest(
            keccak256(abi.encode(SUCCESSION_TYPE, previous, keccak256(abi.encodePacked(signers)), t, threshold, salt))
        );
    }

    /// @inheritdoc IKmsVerifier
    function destructionDigest(bytes32 contextId, bytes32 destroyed) public pure returns (bytes32) {
        return _governanceDigest(keccak256(abi.encode(DESTRUCTION_TYPE, contextId, destroyed)));
    }

    /// @dev Parses the proof, finds its context and counts.
    function _verify(bytes32 handlesHash, bytes32 resultHash, bytes calldata proof)
        private
        view
        returns (bytes32 contextId, uint256 signerBitmap)
    {
        if (proof.length == 0) revert TruncatedProof(0, 1);
        uint256 end = 1 + 65 * uint256(uint8(proof[0]));
        if (proof.length < end) revert TruncatedProof(proof.length, end);
        bytes calldata extraData = proof[end:];
        ExtraData.Fields memory fields = ExtraData.parse(extraData);
        contextId = fields.version == 0 ? currentContextId : fields.contextId;
        Context memory context = _live(contextId);
        signerBitmap = Signatures.requirePacked(
            _decryptionDigest(handlesHash, resultHash, fields.version, extraData),
            proof[1:end],
            SignerTable.read(context.table, context.n),
            context.threshold
        );
    }

    /// @dev EIP-712 digest of a public decryption. Version 0 says nothing, however it is written: signed as empty.
    function _decryptionDigest(bytes32 handlesHash, bytes32 resultHash, uint8 version, bytes calldata extraData)
        private
        view
        returns (bytes32)
    {
        bytes32 extraDataHash = version == 0 ? keccak256("") : keccak256(extraData);
        bytes32 structHash = keccak256(abi.encode(PUBLIC_DECRYPT_TYPE, handlesHash, resultHash, extraDataHash));
        return keccak256(abi.encodePacked(hex"1901", _decryptionDomain, structHash));
    }

    /// @dev Stores a context, whose rules the caller has checked, and makes it the current one.
    function _create(bytes32 previous, address[] memory signers, uint256 t, uint256 threshold, bytes32 salt)
        private
        returns (bytes32 contextId)
    {
        contextId = Committee.id(previous, signers, t, threshold, salt);
        if (_contexts[contextId].n != 0) revert ContextExists(contextId);
        _contexts[contextId] = Context({
            table: SignerTable.write(signers),
            n: uint8(signers.length),
            t: uint8(t),
            threshold: uint8(threshold),
            destroyed: false
        });
        currentContextId = contextId;
        emit ContextCreated(contextId, previous, signers, t, threshold, salt);
    }

    /// @dev The context, or a revert when it never existed.
    function _existing(bytes32 contextId) private view returns (Context memory context) {
        context = _contexts[contextId];
        if (context.n == 0) revert UnknownContext(contextId);
    }

    /// @dev The context, or a revert when it does not exist or is destroyed.
    function _live(bytes32 contextId) private view returns (Context memory context) {
        context = _existing(contextId);
        if (context.destroyed) revert DestroyedContext(contextId);
    }

    /// @dev n − t of a context that exists must have signed.
    function _requireAgreement(bytes32 contextId, bytes32 digest, bytes[] calldata signatures) private view {
        Context memory context = _contexts[contextId];
        Signatures.requireList(digest, signatures, SignerTable.read(context.table, context.n), context.n - context.t);
    }

    /// @dev EIP-712 digest in the domain of governance.
    function _governanceDigest(bytes32 structHash) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", GOVERNANCE_DOMAIN, structHash));
    }
}
