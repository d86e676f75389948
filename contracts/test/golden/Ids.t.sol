// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";
import {Handles} from "../../libraries/Handles.sol";

/// @dev Ids that no contract computes, said a second time: what Rust wrote must follow from the specification alone.
contract IdsTest is Test {
    using stdJson for string;

    string private json;
    string private entry;

    function setUp() public {
        json = vm.readFile("tests/golden/ids.json");
    }

    function _word(string memory field) private view returns (bytes32) {
        return json.readBytes32(string.concat(entry, field));
    }

    function _number(string memory field) private view returns (uint256) {
        return json.readUint(string.concat(entry, field));
    }

    function _account(string memory field) private view returns (address) {
        return json.readAddress(string.concat(entry, field));
    }

    function test_ids() public {
        uint256 i = 0;
        for (; _enter(i); ++i) {
            bytes memory expected = json.readBytes(string.concat(entry, "expect"));
            string memory name = json.readString(string.concat(entry, "name"));
            assertEq(_derive(keccak256(bytes(json.readString(string.concat(entry, "kind"))))), expected, name);
        }
        assertGt(i, 0);
    }

    /// @dev Turns to the entry with this number, if there is one.
    function _enter(uint256 i) private returns (bool) {
        entry = string.concat("[", vm.toString(i), "].");
        return vm.keyExistsJson(json, string.concat(entry, "name"));
    }

    function _derive(bytes32 kind) private view returns (bytes memory) {
        if (kind == keccak256("key")) return abi.encode(sha256(abi.encodePacked("KMS-KEY-1", _word("bundleDigest"))));
        if (kind == keccak256("epoch")) {
            return abi.encode(
                sha256(abi.encodePacked("KMS-EPOCH-1", _word("contextId"), _word("keyId"), uint64(_number("counter"))))
            );
        }
        if (kind == keccak256("input")) {
            uint8 index = uint8(_number("index"));
            bytes memory preimage =
                abi.encodePacked("KMS-INPUT-1", _word("ciphertextHash"), _account("acl"), _number("chainId"), index);
            return
                abi.encode(
                    Handles.build(keccak256(preimage), index, uint64(_number("chainId")), uint8(_number("type")))
                );
        }
        if (kind == keccak256("metadata")) {
            return abi.encodePacked(_number("chainId"), _account("acl"), _account("contract"), _account("user"));
        }
        assertEq(kind, keccak256("pull"), "unknown kind");
        return abi.encode(
            keccak256(
                abi.encode(
                    "KMS-PULL-1",
                    _number("chainId"),
                    json.readBytes32Array(string.concat(entry, "handles")),
                    json.readBytes(string.concat(entry, "extraData"))
                )
            )
        );
    }
}
