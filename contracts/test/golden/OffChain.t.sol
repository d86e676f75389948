// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";
import {Permits} from "../support/Permits.sol";

/// @dev Statements that no contract checks, said a second time: what Rust wrote must follow from the type strings alone.
contract OffChainTest is Test {
    using stdJson for string;

    string private json;
    string private entry;
    uint256 private compared;

    function test_statements_that_no_contract_checks() public {
        json = vm.readFile("tests/golden/eip712.json");
        for (uint256 i = 0; _enter(i); ++i) {
            bytes32 structHash = _hash(keccak256(bytes(json.readString(_at("statement")))));
            if (structHash == 0) continue;
            ++compared;
            bytes32 separator = keccak256(
                abi.encode(
                    keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                    keccak256(bytes(json.readString(_at("domain.name")))),
                    keccak256(bytes(json.readString(_at("domain.version")))),
                    json.readUint(_at("domain.chainId")),
                    json.readAddress(_at("domain.verifyingContract"))
                )
            );
            string memory name = json.readString(_at("name"));
            assertEq(separator, json.readBytes32(_at("expect.domainSeparator")), name);
            assertEq(
                keccak256(abi.encodePacked(hex"1901", separator, structHash)),
                json.readBytes32(_at("expect.digest")),
                name
            );
        }
        assertGe(compared, 4);
    }

    function _hash(bytes32 statement) private view returns (bytes32) {
        if (statement == keccak256("UserDecryptRequestVerification")) return Permits.hash(_permit());
        if (statement == keccak256("DelegatedUserDecryptRequestVerification")) {
            return Permits.delegatedHash(_permit(), json.readAddress(_at("message.delegatorAddress")));
        }
        if (statement == keccak256("UserDecryptResponseVerification")) {
            return Permits.responseHash(
                json.readBytes(_at("message.publicKey")),
                json.readBytes32Array(_at("message.ctHandles")),
                json.readBytes(_at("message.userDecryptedShare")),
                json.readBytes(_at("message.extraData"))
            );
        }
        if (statement == keccak256("DecryptionReceipt")) return _receipt();
        return 0;
    }

    function _permit() private view returns (Permits.Permit memory) {
        return Permits.Permit({
            publicKey: json.readBytes(_at("message.publicKey")),
            contractAddresses: json.readAddressArray(_at("message.contractAddresses")),
            startTimestamp: json.readUint(_at("message.startTimestamp")),
            durationDays: json.readUint(_at("message.durationDays")),
            extraData: json.readBytes(_at("message.extraData"))
        });
    }

    function _receipt() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "DecryptionReceipt(bytes32 requestId,bytes32 contextId,bytes32 epochId,bytes32 keyId,uint256 arrived,uint256 late,uint256 wrong,uint64 mpcMicros)"
                ),
                json.readBytes32(_at("message.requestId")),
                json.readBytes32(_at("message.contextId")),
                json.readBytes32(_at("message.epochId")),
                json.readBytes32(_at("message.keyId")),
                json.readUint(_at("message.arrived")),
                json.readUint(_at("message.late")),
                json.readUint(_at("message.wrong")),
                json.readUint(_at("message.mpcMicros"))
            )
        );
    }

    /// @dev Turns to the entry with this number, if there is one.
    function _enter(uint256 i) private returns (bool) {
        entry = string.concat("[", vm.toString(i), "].");
        return vm.keyExistsJson(json, _at("name"));
    }

    function _at(string memory field) private view returns (string memory) {
        return string.concat(entry, field);
    }
}
