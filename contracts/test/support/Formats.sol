// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Cleartexts} from "../../libraries/Cleartexts.sol";
import {Committee} from "../../libraries/Committee.sol";
import {ExtraData} from "../../libraries/ExtraData.sol";
import {Handles} from "../../libraries/Handles.sol";
import {Signatures} from "../../libraries/Signatures.sol";

/// @dev The libraries' functions as calls, so that a test can see them revert.
contract Formats {
    function checkRequest(bytes32[] calldata handles) external view {
        Handles.checkRequest(handles);
    }

    function check(bytes32 handle) external view returns (uint256 bits) {
        Handles.check(handle);
        return Handles.bitsOf(Handles.typeOf(handle));
    }

    function parseExtraData(bytes calldata data) external pure returns (ExtraData.Fields memory) {
        return ExtraData.parse(data);
    }

    function checkCleartexts(bytes32[] calldata handles, bytes calldata cleartexts) external pure {
        Cleartexts.check(handles, cleartexts);
    }

    function checkCommittee(address[] calldata signers, uint256 t, uint256 threshold) external pure {
        Committee.check(signers, t, threshold);
    }

    function committeeId(bytes32 previous, address[] calldata signers, uint256 t, uint256 threshold, bytes32 salt)
        external
        pure
        returns (bytes32)
    {
        return Committee.id(previous, signers, t, threshold, salt);
    }

    function countPacked(bytes32 digest, bytes calldata signature, address[] calldata signers) external view {
        Signatures.requirePacked(digest, signature, signers, 1);
    }

    function countList(bytes32 digest, bytes[] calldata signatures, address[] calldata signers) external pure {
        Signatures.requireList(digest, signatures, signers, 1);
    }
}
