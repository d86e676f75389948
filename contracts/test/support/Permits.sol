// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// @dev Hashes of what users, delegates and parties sign about user decryptions, said plainly: no contract hashes them.
library Permits {
    struct Permit {
        bytes publicKey;
        address[] contractAddresses;
        uint256 startTimestamp;
        uint256 durationDays;
        bytes extraData;
    }

    function hash(Permit memory permit) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "UserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,uint256 startTimestamp,uint256 durationDays,bytes extraData)"
                ),
                keccak256(permit.publicKey),
                keccak256(abi.encodePacked(permit.contractAddresses)),
                permit.startTimestamp,
                permit.durationDays,
                keccak256(permit.extraData)
            )
        );
    }

    function delegatedHash(Permit memory permit, address delegator) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "DelegatedUserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,address delegatorAddress,uint256 startTimestamp,uint256 durationDays,bytes extraData)"
                ),
                keccak256(permit.publicKey),
                keccak256(abi.encodePacked(permit.contractAddresses)),
                delegator,
                permit.startTimestamp,
                permit.durationDays,
                keccak256(permit.extraData)
            )
        );
    }

    function responseHash(bytes memory publicKey, bytes32[] memory handles, bytes memory share, bytes memory extraData)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "UserDecryptResponseVerification(bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"
                ),
                keccak256(publicKey),
                keccak256(abi.encodePacked(handles)),
                keccak256(share),
                keccak256(extraData)
            )
        );
    }
}
