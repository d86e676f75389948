// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Signatures} from "../../libraries/Signatures.sol";

/// @dev The two sides of a comparison: the loop in assembly, and the same said plainly.
contract SignatureCounters {
    function fast(bytes32 digest, bytes calldata signatures, address[] memory signers, uint256 threshold)
        external
        view
        returns (uint256)
    {
        return Signatures.requirePacked(digest, signatures, signers, threshold);
    }

    function plain(bytes32 digest, bytes calldata signatures, address[] memory signers, uint256 threshold)
        external
        pure
        returns (uint256 bitmap)
    {
        uint256 counted;
        for (uint256 i = 0; i < signatures.length / 65 && counted < threshold; ++i) {
            (address signer, ECDSA.RecoverError failure,) =
                ECDSA.tryRecover(digest, bytes(signatures[65 * i:65 * (i + 1)]));
            if (failure != ECDSA.RecoverError.NoError) revert Signatures.InvalidSignature(i);
            uint256 place;
            while (place < signers.length && signers[place] != signer) ++place;
            if (place == signers.length) revert Signatures.ForeignSigner(i, signer);
            if (bitmap & (1 << place) != 0) continue;
            bitmap |= 1 << place;
            ++counted;
        }
        if (counted < threshold) revert Signatures.ThresholdNotReached(counted, threshold);
    }
}
