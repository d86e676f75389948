// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";

/// @title The one storage slot of a request
/// @notice Bits 0–7 state. Open: 8–71 effective deadline, 72–255 fee. Answered: 8–255 the upper 248 bits of the cleartexts' hash.
library RequestSlot {
    /// @dev The slot, raw.
    struct Slot {
        uint256 word;
    }

    uint256 private constant FEE_SHIFT = 72;
    uint256 private constant MAX_FEE = type(uint184).max;

    /// @notice Opens a request.
    function open(Slot storage slot, uint64 deadline_, uint256 fee_) internal {
        if (fee_ > MAX_FEE) revert IDecryptionGateway.FeeTooHigh(fee_);
        slot.word = uint256(IDecryptionGateway.State.Open) | (uint256(deadline_) << 8) | (fee_ << FEE_SHIFT);
    }

    /// @notice Raises the fee of an open request.
    function addFee(Slot storage slot, uint256 more) internal returns (uint256 total) {
        total = fee(slot) + more;
        if (total > MAX_FEE) revert IDecryptionGateway.FeeTooHigh(total);
        slot.word = (slot.word & ((1 << FEE_SHIFT) - 1)) | (total << FEE_SHIFT);
    }

    /// @notice Changes the effective deadline of an open request.
    function setDeadline(Slot storage slot, uint64 deadline_) internal {
        open(slot, deadline_, fee(slot));
    }

    /// @notice Records an answer.
    function answer(Slot storage slot, IDecryptionGateway.State state_, bytes32 resultHash) internal {
        slot.word = (uint256(resultHash) >> 8 << 8) | uint256(state_);
    }

    /// @notice Changes the state of an answered request.
    function setState(Slot storage slot, IDecryptionGateway.State state_) internal {
        slot.word = (slot.word >> 8 << 8) | uint256(state_);
    }

    /// @notice Ends a request without an answer.
    function expire(Slot storage slot) internal {
        slot.word = uint256(IDecryptionGateway.State.Expired);
    }

    /// @notice The state.
    function state(Slot storage slot) internal view returns (IDecryptionGateway.State) {
        return IDecryptionGateway.State(uint8(slot.word));
    }

    /// @notice Effective deadline of an open request.
    function deadline(Slot storage slot) internal view returns (uint64) {
        return uint64(slot.word >> 8);
    }

    /// @notice Fee of an open request.
    function fee(Slot storage slot) internal view returns (uint256) {
        return slot.word >> FEE_SHIFT;
    }

    /// @notice Whether an answered request was answered with cleartexts of this hash.
    function answeredWith(Slot storage slot, bytes32 resultHash) internal view returns (bool) {
        return slot.word >> 8 == uint256(resultHash) >> 8;
    }
}
