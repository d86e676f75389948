// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Script} from "forge-std/Script.sol";
import {CoprocessorConfig} from "@fhevm/solidity/lib/Impl.sol";
import {ConfidentialToken} from "../examples/ConfidentialToken.sol";
import {ConfidentialVote} from "../examples/ConfidentialVote.sol";
import {EcosystemVote} from "../examples/EcosystemVote.sol";
import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";
import {IFheExecutor} from "../interfaces/IFheExecutor.sol";

/// @title Deploys the examples on a deployment
contract DeployExamples is Script {
    /// @notice Deploys and writes the addresses as JSON to KMS_OUT.
    function run() external {
        address executor = vm.envAddress("KMS_FHE_EXECUTOR");
        vm.startBroadcast(vm.envUint("KMS_DEPLOYER_KEY"));
        ConfidentialVote confidential =
            new ConfidentialVote(IFheExecutor(executor), IDecryptionGateway(vm.envAddress("KMS_DECRYPTION_GATEWAY")));
        EcosystemVote ecosystem = new EcosystemVote(
            CoprocessorConfig({
                ACLAddress: vm.envAddress("KMS_ACCESS_CONTROL"),
                CoprocessorAddress: executor,
                KMSVerifierAddress: vm.envAddress("KMS_KMS_VERIFIER")
            })
        );
        ConfidentialToken token = new ConfidentialToken(IFheExecutor(executor));
        vm.stopBroadcast();
        vm.serializeAddress("examples", "confidentialToken", address(token));
        vm.serializeAddress("examples", "confidentialVote", address(confidential));
        vm.writeFile(vm.envString("KMS_OUT"), vm.serializeAddress("examples", "ecosystemVote", address(ecosystem)));
    }
}
