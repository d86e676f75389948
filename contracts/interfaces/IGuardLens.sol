// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IDecryptionGateway} from "./IDecryptionGateway.sol";

/// @title Everything a party checks, in one `eth_call`
interface IGuardLens {
    /// @notice A handle as a party must see it. `keyId` zero: not committed yet. `keyState`: see `IKeyManagement.KeyState`.
    struct HandleView {
        bool persistAllowed;
        bool allowedForDecryption;
        bytes32 keyId;
        bytes32 digest;
        uint8 keyState;
    }

    /// @notice A request as a party must see it. `state`: 0 unknown, 1 open, 2 fulfilled, 3 delivered, 4 delivery failed, 5 expired.
    struct RequestView {
        uint8 state;
        uint64 effectiveDeadline;
        uint64 blockTimestamp;
        uint64 blockNumber;
        bool contextLive;
        bytes32 currentContextId;
        HandleView[] handles;
    }

    /// @notice All about a request; rights are those of its requester.
    function viewRequest(IDecryptionGateway.Request calldata request) external view returns (RequestView memory);

    /// @notice All about handles; rights are those of `account` (may be zero: public rights only).
    function viewHandles(address account, bytes32[] calldata handles)
        external
        view
        returns (uint64 blockTimestamp, uint64 blockNumber, bytes32 currentContextId, HandleView[] memory);
}
