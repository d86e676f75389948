// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Test} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";
import {IAccessControl} from "../../interfaces/IAccessControl.sol";

/// @dev What a coprocessor derives for a call is what the executor gives for it, in that block and under those addresses.
contract ComputedTest is Test {
    using stdJson for string;

    function test_computed_handles() public {
        string memory json = vm.readFile("tests/golden/computed.json");
        vm.roll(100);
        uint256 i = 0;
        for (; vm.keyExistsJson(json, string.concat("[", vm.toString(i), "].name")); ++i) {
            string memory entry = string.concat("[", vm.toString(i), "].");
            address acl = json.readAddress(string.concat(entry, "acl"));
            address executor = json.readAddress(string.concat(entry, "executor"));
            vm.chainId(json.readUint(string.concat(entry, "chainId")));
            vm.warp(json.readUint(string.concat(entry, "timestamp")));
            vm.setBlockhash(99, json.readBytes32(string.concat(entry, "parent")));
            // Rights are not the question here.
            vm.etch(acl, hex"00");
            vm.mockCall(acl, abi.encodeWithSelector(IAccessControl.isAllowed.selector), abi.encode(true));
            vm.mockCall(acl, abi.encodeWithSelector(IAccessControl.allowTransient.selector), "");
            deployCodeTo("FheExecutor.sol:FheExecutor", abi.encode(acl, address(0)), executor);
            (bool done, bytes memory result) = executor.call(json.readBytes(string.concat(entry, "call")));
            string memory name = json.readString(string.concat(entry, "name"));
            assertTrue(done, name);
            assertEq(abi.decode(result, (bytes32)), json.readBytes32(string.concat(entry, "expect")), name);
        }
        assertEq(i, 13);
    }
}
