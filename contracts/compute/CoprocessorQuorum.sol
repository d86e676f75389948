// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Committee} from "../libraries/Committee.sol";
import {SignerTable} from "../libraries/SignerTable.sol";

/// @title A fixed set of coprocessors and how many of them must sign
/// @dev Immutable like the rest: other coprocessors mean another deployment. Nobody can be added by a single key.
abstract contract CoprocessorQuorum {
    address private immutable _table;
    uint256 private immutable _count;
    uint256 private immutable _threshold;

    /// @notice Not 1 ≤ threshold ≤ number of coprocessors ≤ 255.
    error InvalidCoprocessorThreshold(uint256 threshold, uint256 count);

    /// @param signers the coprocessors.
    /// @param threshold how many must sign.
    constructor(address[] memory signers, uint256 threshold) {
        if (threshold == 0 || threshold > signers.length || signers.length > 255) {
            revert InvalidCoprocessorThreshold(threshold, signers.length);
        }
        Committee.checkDistinct(signers);
        _table = SignerTable.write(signers);
        _count = signers.length;
        _threshold = threshold;
    }

    /// @notice The coprocessors.
    function getCoprocessorSigners() public view virtual returns (address[] memory) {
        return SignerTable.read(_table, _count);
    }

    /// @notice How many coprocessors must sign.
    function getThreshold() public view virtual returns (uint256) {
        return _threshold;
    }
}
