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

    /// @notice A handle and the contract in whose name it is read.
    struct HandleContractPair {
        bytes32 handle;
        address contractAddress;
    }

    /// @notice What a permit asks for. `user`: whose values are read. `signer`: who signed the permit, the user itself or its delegate.
    /// `contextId`: the committee that is to answer. `askSigner`: whether the signer's contract shall be asked (ERC-1271) if `signature`
    /// is its signature of `permitDigest`; otherwise these two do not matter.
    struct UserDecryptionQuery {
        address user;
        address signer;
        bytes32 contextId;
        HandleContractPair[] pairs;
        bool askSigner;
        bytes32 permitDigest;
        bytes signature;
    }

    /// @notice A pair as a party must see it. `userAllowed`, `contractAllowed`: lasting rights. `delegated`: at this block the signer may
    /// read for the user in this contract; always so if they are one. `delegatedUntil`: when a delegation ends or has ended, zero: there is
    /// none, the greatest number: user and signer are one, or it never ends. `keyId` zero: not committed yet. `keyState`: see
    /// `IKeyManagement.KeyState`.
    struct PairView {
        bool userAllowed;
        bool contractAllowed;
        bool delegated;
        uint64 delegatedUntil;
        bytes32 keyId;
        bytes32 digest;
        uint8 keyState;
    }

    /// @notice A user decryption as a party must see it. `contextLive`: the query's context is known and not destroyed.
    /// `signaturesInvalidBefore`: the signer's permits count if they start at this time or later. `signature`: 0 nobody was asked, 1 the
    /// signer's contract accepts, 2 it answers something else, 3 it reverts or takes more than `SIGNATURE_GAS`, 4 its answer is not of
    /// 32 bytes, 5 the signer is no contract, 6 this call has too little gas to ask.
    struct UserDecryptionView {
        uint64 blockTimestamp;
        uint64 blockNumber;
        bytes32 currentContextId;
        bool contextLive;
        uint64 signaturesInvalidBefore;
        uint8 signature;
        PairView[] pairs;
    }

    /// @notice More pairs than one request may have bits for.
    error TooManyPairs(uint256 count, uint256 most);
    /// @notice A longer signature is not put to a contract.
    error SignatureTooLong(uint256 length, uint256 most);

    /// @notice All about a request; rights are those of its requester.
    function viewRequest(IDecryptionGateway.Request calldata request) external view returns (RequestView memory);

    /// @notice All about handles; rights are those of `account` (may be zero: public rights only).
    function viewHandles(address account, bytes32[] calldata handles)
        external
        view
        returns (uint64 blockTimestamp, uint64 blockNumber, bytes32 currentContextId, HandleView[] memory);

    /// @notice All about a user decryption, but what the permit itself says (its times, its list of contracts) and signatures of keys.
    function viewUserDecryption(UserDecryptionQuery calldata query) external view returns (UserDecryptionView memory);

    /// @notice Gas that a signer's contract gets to check a signature, neither more nor less, so that all endpoints see the same answer.
    function SIGNATURE_GAS() external view returns (uint256);

    /// @notice Most pairs of a query.
    function MAX_PAIRS() external view returns (uint256);

    /// @notice Longest signature that is put to a contract, in bytes.
    function MAX_SIGNATURE() external view returns (uint256);
}
