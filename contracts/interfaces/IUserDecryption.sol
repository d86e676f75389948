// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Who may read for whom, and which permits count
/// @notice An account reads what it holds by a permit, a signature that it makes off chain. Here it lets others read for it, and takes
/// back permits that it has signed. Parties check both before they answer.
/// @dev Names are the ecosystem's, so `@fhevm/solidity` calls this contract unchanged. A delegation holds before its expiration date,
/// not at it.
interface IUserDecryption {
    /// @notice A delegation. `expirationDate` zero: there is none, or it was revoked.
    struct Delegation {
        uint64 expirationDate;
        uint64 counter;
        uint64 lastBlock;
    }

    /// @notice `delegate` may read, until `newExpirationDate`, what `delegator` may read in `contractAddress`.
    /// @param delegationCounter how often this delegation has changed, this time included.
    event DelegatedForUserDecryption(
        address indexed delegator,
        address indexed delegate,
        address contractAddress,
        uint64 delegationCounter,
        uint64 oldExpirationDate,
        uint64 newExpirationDate
    );
    /// @notice `delegate` may no longer read for `delegator` in `contractAddress`.
    event RevokedDelegationForUserDecryption(
        address indexed delegator,
        address indexed delegate,
        address contractAddress,
        uint64 delegationCounter,
        uint64 oldExpirationDate
    );
    /// @notice Permits that `user` has signed and that start before `timestamp` count no more.
    event DecryptionSignaturesInvalidated(address indexed user, uint64 timestamp);

    /// @notice Nobody is the delegate.
    error ZeroDelegate();
    /// @notice An account reads for itself without a delegation.
    error SenderCannotBeDelegate(address delegate);
    /// @notice A contract's own values are not read in its own name.
    error SenderCannotBeContractAddress(address contractAddress);
    /// @notice A permit's signer is never one of the contracts that it names.
    error DelegateCannotBeContractAddress(address contractAddress);
    /// @notice The delegation would never hold.
    error ExpirationDateInThePast(uint64 expirationDate, uint256 timestamp);
    /// @notice The delegation has this expiration date already.
    error ExpirationDateAlreadySetToSameValue(address delegate, address contractAddress, uint64 expirationDate);
    /// @notice A delegation changes once per block, so that a block says what it is.
    error AlreadyDelegatedOrRevokedInSameBlock(address delegate, address contractAddress, uint256 blockNumber);
    /// @notice There is no delegation to revoke.
    error NotDelegatedYet(address delegate, address contractAddress);
    /// @notice Permits before `current` are invalid already; what is invalid stays so.
    error InvalidationNotLater(uint64 timestamp, uint64 current);
    /// @notice So late a time, perhaps one in milliseconds, would lock the account out.
    error InvalidationTooFarAhead(uint64 timestamp, uint64 latest);

    /// @notice Lets `delegate` read what the caller may read in a contract.
    /// @param contractAddress the contract, or `WILDCARD_CONTRACT` for every contract.
    /// @param expirationDate UNIX time from which on the delegation holds no more; the greatest number: never.
    function delegateForUserDecryption(address delegate, address contractAddress, uint64 expirationDate) external;

    /// @notice Ends a delegation of the caller. One contract's delegation and the wildcard are revoked apart.
    function revokeDelegationForUserDecryption(address delegate, address contractAddress) external;

    /// @notice Ends all permits that the caller has signed and that start before `timestamp`. Irreversible.
    /// @param timestamp UNIX time, later than any given before, at most `MAX_INVALIDATION_AHEAD` ahead.
    function invalidateDecryptionSignaturesBefore(uint64 timestamp) external;

    /// @notice Permits that `user` has signed count if they start at this time or later; zero: all of them.
    function decryptionSignaturesInvalidBefore(address user) external view returns (uint64 timestamp);

    /// @notice Expiration date of exactly this delegation, whether it has passed or not; zero: none.
    function getUserDecryptionDelegationExpirationDate(address delegator, address delegate, address contractAddress)
        external
        view
        returns (uint64);

    /// @notice Until when `delegate` may read for `delegator` in `contractAddress`, by this delegation or by the wildcard. It may at a
    /// block whose time is less.
    function userDecryptionDelegatedUntil(address delegator, address delegate, address contractAddress)
        external
        view
        returns (uint64 timestamp);

    /// @notice Exactly this delegation, whole.
    function userDecryptionDelegationOf(address delegator, address delegate, address contractAddress)
        external
        view
        returns (Delegation memory);

    /// @notice Whether `delegate` may read `handle` now: both `delegator` and `contractAddress` hold a lasting right on it, and the
    /// delegation, or the wildcard, holds.
    function isHandleDelegatedForUserDecryption(
        address delegator,
        address delegate,
        address contractAddress,
        bytes32 handle
    ) external view returns (bool);

    /// @notice Stands for every contract in a delegation.
    function WILDCARD_CONTRACT() external view returns (address);

    /// @notice Seconds that an invalidation may lie ahead: the longest life of a permit.
    function MAX_INVALIDATION_AHEAD() external view returns (uint64);
}
