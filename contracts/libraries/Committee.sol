// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IKmsVerifier} from "../interfaces/IKmsVerifier.sol";

/// @title Rules for lists of signers
/// @dev The Rust module `kms_chain::context` holds the same rules.
library Committee {
    /// @notice A signer is the zero address.
    error ZeroSigner(uint256 index);
    /// @notice A signer stands twice in the list.
    error DuplicateSigner(address signer);

    /// @notice Identity of a committee.
    function id(bytes32 previous, address[] memory signers, uint256 t, uint256 threshold, bytes32 salt)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(previous, signers, t, threshold, salt));
    }

    /// @notice Reverts unless 1 ≤ n ≤ 255, n ≥ 3t + 1, t + 1 ≤ threshold ≤ n − t, signers distinct and not zero.
    function check(address[] memory signers, uint256 t, uint256 threshold) internal pure {
        uint256 n = signers.length;
        if (n == 0 || n > 255 || t > 84 || n < 3 * t + 1) revert IKmsVerifier.InvalidCommitteeSize(n, t);
        if (threshold < t + 1 || threshold > n - t) revert IKmsVerifier.InvalidThreshold(threshold, n, t);
        checkDistinct(signers);
    }

    /// @notice Reverts unless the signers are distinct and not zero.
    function checkDistinct(address[] memory signers) internal pure {
        for (uint256 i = 0; i < signers.length; ++i) {
            if (signers[i] == address(0)) revert ZeroSigner(i);
            for (uint256 j = 0; j < i; ++j) {
                if (signers[i] == signers[j]) revert DuplicateSigner(signers[i]);
            }
        }
    }
}
