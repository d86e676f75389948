// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {KmsTest} from "../support/KmsTest.sol";
import {IKmsVerifier} from "../../interfaces/IKmsVerifier.sol";
import {KmsVerifier} from "../../verifier/KmsVerifier.sol";
import {Committee} from "../../libraries/Committee.sol";
import {Signatures} from "../../libraries/Signatures.sol";

/// @dev Committees name committees; typos do not pass.
contract GovernanceTest is KmsTest {
    uint256[] private newKeys;
    address[] private newSigners;
    bytes32 private constant SALT = keccak256("salt");

    function setUp() public override {
        super.setUp();
        (newKeys, newSigners) = _committee("new", 7);
    }

    function _statement(bytes32 previous) private view returns (bytes32) {
        return _successionDigest(previous, newSigners, 2, 5, SALT);
    }

    function _name(bytes[] memory current, bytes[] memory successor) private returns (bytes32) {
        return verifier.nameSuccessor(newSigners, 2, 5, SALT, current, successor);
    }

    function test_context_id_binds_everything() public view {
        IKmsVerifier.ContextView memory genesis = verifier.contextOf(verifier.currentContextId());
        assertEq(
            genesis.contextId,
            keccak256(abi.encode(bytes32(0), parties, uint256(T), uint256(THRESHOLD), bytes32(uint256(1))))
        );
        assertEq(genesis.signers, parties);
        assertEq(genesis.t, T);
        assertEq(genesis.threshold, THRESHOLD);
        assertFalse(genesis.destroyed);
    }

    function test_both_sides_name_the_successor_and_old_signatures_stay_valid() public {
        bytes32 old = verifier.currentContextId();
        bytes32 digest = _statement(old);
        bytes32 expected = keccak256(abi.encode(old, newSigners, uint256(2), uint256(5), SALT));
        vm.expectEmit(address(verifier));
        emit IKmsVerifier.ContextCreated(expected, old, newSigners, 2, 5, SALT);
        bytes32 contextId = _name(_signList(partyKeys, 3, digest), _signList(newKeys, 5, digest));
        assertEq(contextId, expected);
        assertEq(verifier.currentContextId(), expected);
        assertEq(verifier.getKmsSigners(), newSigners);
        assertEq(verifier.getThreshold(), 5);

        bytes32[] memory handles = _one(_handle("x", 5));
        bytes memory extraData = abi.encodePacked(uint8(1), old);
        assertTrue(
            verifier.verifyDecryptionEIP712KMSSignatures(
                handles, abi.encode(1), _proof(handles, abi.encode(1), extraData, 3)
            )
        );
    }

    function test_too_few_of_either_side() public {
        bytes32 digest = _statement(verifier.currentContextId());
        bytes[] memory enough = _signList(partyKeys, 3, digest);
        bytes[] memory agreed = _signList(newKeys, 5, digest);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 2, 3));
        _name(_signList(partyKeys, 2, digest), agreed);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 4, 5));
        _name(enough, _signList(newKeys, 4, digest));
    }

    /// @dev n − t is needed, not the decryption threshold, which may be lower.
    function test_decryption_threshold_is_not_enough_to_govern() public {
        (uint256[] memory secrets, address[] memory signers) = _committee("low", 7);
        KmsVerifier low = new KmsVerifier(1, address(1), signers, 2, 3, SALT);
        bytes32 digest = _statement(low.currentContextId());
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 4, 5));
        low.nameSuccessor(newSigners, 2, 5, SALT, _signList(secrets, 4, digest), _signList(newKeys, 5, digest));
        low.nameSuccessor(newSigners, 2, 5, SALT, _signList(secrets, 5, digest), _signList(newKeys, 5, digest));
    }

    function test_a_typo_in_the_new_signers_cannot_pass() public {
        // Three of seven addresses are nobody's: at most four of the needed five can sign.
        for (uint256 i = 4; i < 7; ++i) {
            newSigners[i] = address(uint160(newSigners[i]) ^ 1);
        }
        bytes32 digest = _statement(verifier.currentContextId());
        bytes[] memory current = _signList(partyKeys, 3, digest);
        bytes[] memory successor = _signList(newKeys, 5, digest);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ForeignSigner.selector, 4, vm.addr(newKeys[4])));
        _name(current, successor);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 4, 5));
        _name(current, _signList(newKeys, 4, digest));
    }

    function test_signatures_over_other_terms_do_not_pass() public {
        bytes32 current = verifier.currentContextId();
        bytes32 other = _successionDigest(current, newSigners, 2, 5, keccak256("other salt"));
        bytes[] memory mine = _signList(partyKeys, 3, other);
        bytes[] memory theirs = _signList(newKeys, 5, other);
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        _name(mine, theirs);
    }

    function test_a_context_has_one_successor() public {
        bytes32 old = verifier.currentContextId();
        bytes32 digest = _statement(old);
        bytes[] memory current = _signList(partyKeys, 3, digest);
        bytes[] memory successor = _signList(newKeys, 5, digest);
        _name(current, successor);
        // The same again, or another: the old committee is not asked any more.
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        _name(current, successor);
    }

    /// @dev The statement carries neither chain nor contract, so it can be mirrored.
    function test_succession_is_mirrored_to_another_chain() public {
        bytes32 digest = _statement(verifier.currentContextId());
        bytes[] memory current = _signList(partyKeys, 3, digest);
        bytes[] memory successor = _signList(newKeys, 5, digest);
        bytes32 here = _name(current, successor);
        vm.chainId(4242);
        KmsVerifier elsewhere = new KmsVerifier(1, address(1), parties, T, THRESHOLD, bytes32(uint256(1)));
        vm.prank(address(0xabcdef));
        assertEq(elsewhere.nameSuccessor(newSigners, 2, 5, SALT, current, successor), here);
    }

    function test_destroyed_context_verifies_nothing() public {
        bytes32 old = verifier.currentContextId();
        (bytes32 current, uint256[] memory secrets) = _succeed("next");
        bytes32 digest = _destructionDigest(current, old);
        bytes[] memory few = _signList(secrets, 2, digest);
        vm.expectRevert(abi.encodeWithSelector(Signatures.ThresholdNotReached.selector, 2, 3));
        verifier.destroyContext(old, few);

        vm.expectEmit(address(verifier));
        emit IKmsVerifier.ContextDestroyed(old, current);
        verifier.destroyContext(old, _signList(secrets, 3, digest));
        assertFalse(verifier.isLive(old));
        assertTrue(verifier.contextOf(old).destroyed);

        bytes32[] memory handles = _one(_handle("x", 5));
        bytes memory extraData = abi.encodePacked(uint8(1), old);
        bytes memory proof = _proof(handles, abi.encode(1), extraData, 3);
        vm.expectRevert(abi.encodeWithSelector(IKmsVerifier.DestroyedContext.selector, old));
        verifier.verifyDecryptionEIP712KMSSignatures(handles, abi.encode(1), proof);
        vm.expectRevert(abi.encodeWithSelector(IKmsVerifier.DestroyedContext.selector, old));
        verifier.getContextSignersAndThresholdFromExtraData(extraData);
        bytes[] memory again = _signList(secrets, 3, digest);
        vm.expectRevert(abi.encodeWithSelector(IKmsVerifier.DestroyedContext.selector, old));
        verifier.destroyContext(old, again);
    }

    function test_who_cannot_be_destroyed_and_by_whom() public {
        bytes32 old = verifier.currentContextId();
        bytes[] memory self = _signList(partyKeys, 3, _destructionDigest(old, old));
        vm.expectRevert(abi.encodeWithSelector(IKmsVerifier.CurrentContext.selector, old));
        verifier.destroyContext(old, self);
        vm.expectRevert(abi.encodeWithSelector(IKmsVerifier.UnknownContext.selector, SALT));
        verifier.destroyContext(SALT, self);
        // An older committee, though live, destroys nobody.
        _succeed("next");
        (uint256[] memory nextKeys,) = _committee("next", N);
        partyKeys = nextKeys;
        (bytes32 third,) = _succeed("third");
        bytes[] memory stale = _signList(nextKeys, 3, _destructionDigest(third, old));
        vm.expectPartialRevert(Signatures.ForeignSigner.selector);
        verifier.destroyContext(old, stale);
    }

    function _reject(address[] memory signers, uint256 t, uint256 threshold, bytes memory why) private {
        vm.expectRevert(why);
        new KmsVerifier(1, address(1), signers, t, threshold, SALT);
    }

    function test_rules_of_a_committee() public {
        (, address[] memory four) = _committee("c", 4);
        (, address[] memory six) = _committee("c", 6);
        (, address[] memory many) = _committee("c", 256);
        _reject(new address[](0), 0, 1, abi.encodeWithSelector(IKmsVerifier.InvalidCommitteeSize.selector, 0, 0));
        _reject(many, 1, 3, abi.encodeWithSelector(IKmsVerifier.InvalidCommitteeSize.selector, 256, 1));
        _reject(six, 2, 3, abi.encodeWithSelector(IKmsVerifier.InvalidCommitteeSize.selector, 6, 2));
        _reject(
            six,
            type(uint256).max,
            3,
            abi.encodeWithSelector(IKmsVerifier.InvalidCommitteeSize.selector, 6, type(uint256).max)
        );
        _reject(four, 1, 1, abi.encodeWithSelector(IKmsVerifier.InvalidThreshold.selector, 1, 4, 1));
        _reject(four, 1, 4, abi.encodeWithSelector(IKmsVerifier.InvalidThreshold.selector, 4, 4, 1));
        four[2] = address(0);
        _reject(four, 1, 3, abi.encodeWithSelector(Committee.ZeroSigner.selector, 2));
        four[2] = four[0];
        _reject(four, 1, 3, abi.encodeWithSelector(Committee.DuplicateSigner.selector, four[0]));
    }

    function test_decryption_domain_names_a_contract() public {
        vm.expectRevert(IKmsVerifier.ZeroDomainContract.selector);
        new KmsVerifier(1, address(0), parties, T, THRESHOLD, SALT);
    }

    function test_largest_committee_and_a_committee_of_one() public {
        (, address[] memory many) = _committee("c", 255);
        KmsVerifier largest = new KmsVerifier(1, address(1), many, 84, 169, SALT);
        assertEq(largest.getKmsSigners(), many);
        (, address[] memory one) = _committee("c", 1);
        assertEq(new KmsVerifier(1, address(1), one, 0, 1, SALT).getThreshold(), 1);
    }
}
