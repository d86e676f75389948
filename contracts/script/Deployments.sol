// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {AccessControl} from "../registry/AccessControl.sol";
import {CiphertextRegistry} from "../registry/CiphertextRegistry.sol";
import {FheExecutor} from "../compute/FheExecutor.sol";
import {InputVerifier} from "../compute/InputVerifier.sol";
import {DecryptionGateway} from "../gateway/DecryptionGateway.sol";
import {GuardLens} from "../gateway/GuardLens.sol";
import {KeyManagement} from "../lifecycle/KeyManagement.sol";
import {KmsVerifier} from "../verifier/KmsVerifier.sol";

/// @notice What a deployment is made from.
struct DeploymentConfig {
    address[] signers;
    uint256 t;
    uint256 threshold;
    bytes32 salt;
    address[] coprocessors;
    uint256 coprocessorThreshold;
    address guardian;
    uint16 minFinality;
    uint256 domainChainId;
    /// Zero: this deployment's gateway is the canonical decryption domain.
    address domainContract;
}

/// @notice The contracts of a deployment.
struct Deployment {
    AccessControl accessControl;
    FheExecutor fheExecutor;
    InputVerifier inputVerifier;
    CiphertextRegistry ciphertextRegistry;
    KmsVerifier kmsVerifier;
    DecryptionGateway decryptionGateway;
    GuardLens guardLens;
    KeyManagement keyManagement;
}

/// @title The one order in which the contracts are deployed
/// @dev Shared by the deploy script and the tests. ACL and executor name each other, and the decryption domain names the gateway, so
/// two addresses are computed before they exist.
library Deployments {
    /// @notice An address came out other than computed.
    error UnexpectedAddress(address expected, address actual);

    /// @notice Deploys everything; `deployer` creates the contracts, with `nonce` first.
    function deploy(DeploymentConfig memory config, address deployer, uint256 nonce)
        internal
        returns (Deployment memory made)
    {
        address executor = createAddress(deployer, nonce + 3);
        address gateway = createAddress(deployer, nonce + 5);
        bool own = config.domainContract == address(0);
        made.kmsVerifier = new KmsVerifier(
            own ? block.chainid : config.domainChainId,
            own ? gateway : config.domainContract,
            config.signers,
            config.t,
            config.threshold,
            config.salt
        );
        made.inputVerifier = new InputVerifier(config.coprocessors, config.coprocessorThreshold);
        made.accessControl = new AccessControl(executor);
        made.fheExecutor = new FheExecutor(made.accessControl, made.inputVerifier);
        if (address(made.fheExecutor) != executor) revert UnexpectedAddress(executor, address(made.fheExecutor));
        made.ciphertextRegistry = new CiphertextRegistry(config.coprocessors, config.coprocessorThreshold);
        made.decryptionGateway =
            new DecryptionGateway(made.accessControl, made.kmsVerifier, config.minFinality, config.guardian);
        if (address(made.decryptionGateway) != gateway) {
            revert UnexpectedAddress(gateway, address(made.decryptionGateway));
        }
        made.keyManagement = new KeyManagement(made.kmsVerifier);
        made.guardLens = new GuardLens(
            made.accessControl, made.ciphertextRegistry, made.kmsVerifier, made.decryptionGateway, made.keyManagement
        );
    }

    /// @notice Address that `deployer` creates with `nonce`.
    function createAddress(address deployer, uint256 nonce) internal pure returns (address) {
        bytes memory rlpNonce;
        if (nonce == 0) rlpNonce = hex"80";
        else if (nonce < 0x80) rlpNonce = abi.encodePacked(uint8(nonce));
        else if (nonce <= type(uint8).max) rlpNonce = abi.encodePacked(uint8(0x81), uint8(nonce));
        else if (nonce <= type(uint16).max) rlpNonce = abi.encodePacked(uint8(0x82), uint16(nonce));
        else if (nonce <= type(uint24).max) rlpNonce = abi.encodePacked(uint8(0x83), uint24(nonce));
        else rlpNonce = abi.encodePacked(uint8(0x84), uint32(nonce));
        bytes memory list = abi.encodePacked(uint8(0x94), deployer, rlpNonce);
        return address(uint160(uint256(keccak256(abi.encodePacked(uint8(0xc0 + list.length), list)))));
    }
}
