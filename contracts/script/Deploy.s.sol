// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Script} from "forge-std/Script.sol";
import {Committee} from "../libraries/Committee.sol";
import {Deployment, DeploymentConfig, Deployments} from "./Deployments.sol";

/// @title Deploys the whole system by one key, which holds no power afterwards
/// @notice Driven by environment variables; `script/deploy` sets them from a manifest. Addresses follow from deployer and nonce.
contract Deploy is Script {
    /// @notice The manifest names another context than its committee has.
    error UnexpectedContext(bytes32 manifest, bytes32 committee);

    /// @notice Deploys and writes the deployment as JSON to KMS_OUT.
    function run() external {
        DeploymentConfig memory config = DeploymentConfig({
            signers: vm.envAddress("KMS_SIGNERS", ","),
            t: vm.envUint("KMS_T"),
            threshold: vm.envUint("KMS_THRESHOLD"),
            salt: vm.envBytes32("KMS_SALT"),
            coprocessors: vm.envAddress("KMS_COPROCESSORS", ","),
            coprocessorThreshold: vm.envUint("KMS_COPROCESSOR_THRESHOLD"),
            guardian: vm.envAddress("KMS_GUARDIAN"),
            minFinality: uint16(vm.envUint("KMS_MIN_FINALITY")),
            domainChainId: vm.envUint("KMS_DOMAIN_CHAIN_ID"),
            domainContract: vm.envAddress("KMS_DOMAIN_CONTRACT")
        });
        // A manifest and a deployment that disagree must not cost a deployment.
        bytes32 contextId = Committee.id(bytes32(0), config.signers, config.t, config.threshold, config.salt);
        bytes32 expected = vm.envBytes32("KMS_CONTEXT");
        if (contextId != expected) revert UnexpectedContext(expected, contextId);

        uint256 key = vm.envUint("KMS_DEPLOYER_KEY");
        uint256 blockNumber = block.number;

        vm.startBroadcast(key);
        Deployment memory made = Deployments.deploy(config, vm.addr(key), vm.getNonce(vm.addr(key)));
        vm.stopBroadcast();

        vm.writeFile(vm.envString("KMS_OUT"), _json(made, blockNumber));
    }

    function _json(Deployment memory made, uint256 blockNumber) private returns (string memory) {
        string memory c = "contracts";
        vm.serializeAddress(c, "accessControl", address(made.accessControl));
        vm.serializeAddress(c, "fheExecutor", address(made.fheExecutor));
        vm.serializeAddress(c, "inputVerifier", address(made.inputVerifier));
        vm.serializeAddress(c, "ciphertextRegistry", address(made.ciphertextRegistry));
        vm.serializeAddress(c, "kmsVerifier", address(made.kmsVerifier));
        vm.serializeAddress(c, "decryptionGateway", address(made.decryptionGateway));
        vm.serializeAddress(c, "guardLens", address(made.guardLens));
        string memory contracts = vm.serializeAddress(c, "keyManagement", address(made.keyManagement));

        (,,, uint256 domainChainId, address domainContract,,) = made.kmsVerifier.eip712Domain();
        string memory d = "domain";
        vm.serializeUint(d, "chainId", domainChainId);
        string memory domain = vm.serializeAddress(d, "verifyingContract", domainContract);

        string memory all = "deployment";
        vm.serializeUint(all, "chainId", block.chainid);
        vm.serializeUint(all, "deploymentBlock", blockNumber);
        vm.serializeString(all, "contracts", contracts);
        vm.serializeString(all, "decryptionDomain", domain);
        return vm.serializeBytes32(all, "contextId", made.kmsVerifier.currentContextId());
    }
}
