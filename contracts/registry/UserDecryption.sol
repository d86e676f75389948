// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IUserDecryption} from "../interfaces/IUserDecryption.sol";

/// @title Who may read for whom, and which permits count
/// @dev Everybody writes about itself only. No permit and no signature is seen here: parties do that.
abstract contract UserDecryption is IUserDecryption {
    /// @inheritdoc IUserDecryption
    address public constant WILDCARD_CONTRACT = address(type(uint160).max);
    /// @inheritdoc IUserDecryption
    uint64 public constant MAX_INVALIDATION_AHEAD = 365 days;

    /// @inheritdoc IUserDecryption
    mapping(address user => uint64 timestamp) public decryptionSignaturesInvalidBefore;

    mapping(address delegator => mapping(address delegate => mapping(address contractAddress => Delegation))) private
        _delegations;

    /// @inheritdoc IUserDecryption
    function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate) external {
        if (delegate == address(0)) revert ZeroDelegate();
        if (delegate == msg.sender) revert SenderCannotBeDelegate(delegate);
        if (contractAddress == msg.sender) revert SenderCannotBeContractAddress(contractAddress);
        if (contractAddress == delegate) revert DelegateCannotBeContractAddress(contractAddress);
        if (expirationDate <= block.timestamp) revert ExpirationDateInThePast(expirationDate, block.timestamp);
        (uint64 counter, uint64 old) = _change(delegate, contractAddress, expirationDate);
        if (old == expirationDate) {
            revert ExpirationDateAlreadySetToSameValue(delegate, contractAddress, expirationDate);
        }
        emit DelegatedForUserDecryption(msg.sender, delegate, contractAddress, counter, old, expirationDate);
    }

    /// @inheritdoc IUserDecryption
    function revokeDelegationForUserDecryption(address delegate, address contractAddress) external {
        (uint64 counter, uint64 old) = _change(delegate, contractAddress, 0);
        if (old == 0) revert NotDelegatedYet(delegate, contractAddress);
        emit RevokedDelegationForUserDecryption(msg.sender, delegate, contractAddress, counter, old);
    }

    /// @inheritdoc IUserDecryption
    function invalidateDecryptionSignaturesBefore(uint64 timestamp) external {
        uint64 current = decryptionSignaturesInvalidBefore[msg.sender];
        if (timestamp <= current) revert InvalidationNotLater(timestamp, current);
        uint64 latest = uint64(block.timestamp) + MAX_INVALIDATION_AHEAD;
        if (timestamp > latest) revert InvalidationTooFarAhead(timestamp, latest);
        decryptionSignaturesInvalidBefore[msg.sender] = timestamp;
        emit DecryptionSignaturesInvalidated(msg.sender, timestamp);
    }

    /// @inheritdoc IUserDecryption
    function getUserDecryptionDelegationExpirationDate(address delegator, address delegate, address contractAddress)
        external
        view
        returns (uint64)
    {
        return _delegations[delegator][delegate][contractAddress].expirationDate;
    }

    /// @inheritdoc IUserDecryption
    function userDecryptionDelegationOf(address delegator, address delegate, address contractAddress)
        external
        view
        returns (Delegation memory)
    {
        return _delegations[delegator][delegate][contractAddress];
    }

    /// @inheritdoc IUserDecryption
    function userDecryptionDelegatedUntil(address delegator, address delegate, address contractAddress)
        public
        view
        returns (uint64)
    {
        uint64 exact = _delegations[delegator][delegate][contractAddress].expirationDate;
        uint64 wildcard = _delegations[delegator][delegate][WILDCARD_CONTRACT].expirationDate;
        return exact > wildcard ? exact : wildcard;
    }

    /// @dev Writes a delegation of the caller, once per block.
    function _change(address delegate, address contractAddress, uint64 expirationDate)
        private
        returns (uint64 counter, uint64 old)
    {
        Delegation storage delegation = _delegations[msg.sender][delegate][contractAddress];
        // Equality is meant: blocks are counted, and none comes twice.
        // slither-disable-next-line incorrect-equality
        if (delegation.lastBlock == block.number) {
            revert AlreadyDelegatedOrRevokedInSameBlock(delegate, contractAddress, block.number);
        }
        (counter, old) = (delegation.counter + 1, delegation.expirationDate);
        (delegation.expirationDate, delegation.counter, delegation.lastBlock) =
        (expirationDate, counter, uint64(block.number));
    }
}
