// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Requests for decryption, their answers and their fees
/// @notice requestId = keccak256(abi.encode(block.chainid, gateway, request)): content-bound, so that a reorganisation can never
/// give an id another meaning.
interface IDecryptionGateway {
    /// @notice A request, whole. Callers pass it back; the contract keeps one slot per id.
    struct Request {
        address requester;
        uint64 nonce;
        bytes32[] handles;
        bytes4 selector;
        uint32 gasLimit;
        uint16 finality;
        uint64 deadline;
        bytes32 contextId;
    }

    /// @notice Life of a request. `Fulfilled`: no callback was asked for.
    enum State {
        None,
        Open,
        Fulfilled,
        Delivered,
        DeliveryFailed,
        Expired
    }

    /// @notice A decryption was asked for.
    event DecryptionRequested(bytes32 indexed requestId, address indexed requester, Request request, uint256 fee);
    /// @notice The requester cancelled: parties start nothing at or after the new deadline.
    event DeadlineShortened(bytes32 indexed requestId, uint64 deadline);
    /// @notice The fee grew to `total`.
    event FeeAdded(bytes32 indexed requestId, uint256 total);
    /// @notice The answer, emitted before the callback runs.
    event DecryptionFulfilled(bytes32 indexed requestId, bytes cleartexts, uint256 signerBitmap, address fulfiller);
    /// @notice The callback succeeded.
    event CallbackDelivered(bytes32 indexed requestId);
    /// @notice The callback failed; anyone may redeliver.
    event CallbackFailed(bytes32 indexed requestId);
    /// @notice The request ended without an answer; the fee went back.
    event DecryptionExpired(bytes32 indexed requestId);
    /// @notice Credits were paid out.
    event Withdrawn(address indexed account, address to, uint256 amount);

    /// @notice `requester` may not have `handle` decrypted.
    error DecryptionNotAllowed(bytes32 handle, address requester);
    /// @notice The finality is not a known value.
    error UnknownFinality(uint16 finality);
    /// @notice The finality is below this deployment's least.
    error FinalityTooLow(uint16 finality, uint16 least);
    /// @notice The deadline is not between `earliest` and `latest`.
    error DeadlineOutOfRange(uint64 deadline, uint64 earliest, uint64 latest);
    /// @notice A callback was asked for by an account without code.
    error RequesterWithoutCode(address requester);
    /// @notice The callback's gas limit is above the most there can be.
    error CallbackGasTooHigh(uint32 gasLimit, uint32 most);
    /// @notice The fee does not fit its field.
    error FeeTooHigh(uint256 fee);
    /// @notice The request was answered already.
    error AlreadyFulfilled(bytes32 requestId);
    /// @notice The request is not in the state that the call needs.
    error WrongState(bytes32 requestId, State state);
    /// @notice The proof's extraData does not bind it to this request and its context (version 3).
    error ProofNotBound(bytes32 requestId);
    /// @notice The cleartexts are not the ones that were fulfilled.
    error CleartextsMismatch(bytes32 requestId);
    /// @notice The redelivery's gas limit is below the request's.
    error CallbackGasTooLow(uint32 gasLimit, uint32 least);
    /// @notice Too little gas is left to give the callback what it was promised.
    error InsufficientGas(uint256 available, uint256 needed);
    /// @notice Only the requester may cancel.
    error NotRequester(address caller);
    /// @notice The deadline has passed already.
    error DeadlinePassed(uint64 deadline);
    /// @notice The request may be expired only from `from` on.
    error NotYetExpired(uint64 from);
    /// @notice Nothing to withdraw.
    error NoCredit(address account);
    /// @notice The transfer of credits failed.
    error TransferFailed(address to);
    /// @notice Only the guardian may do this.
    error NotGuardian(address caller);

    /// @notice Asks for the decryption of `handles`. The value sent is the fee.
    /// @param selector called back as `selector(bytes32 requestId, bytes cleartexts)`; zero for none.
    /// @param gasLimit gas of the callback.
    /// @param finality 0 latest, 1…1000 blocks on top, 0xfffe safe, 0xffff finalized.
    /// @param deadline block time at which parties stop starting on it.
    function requestDecryption(
        bytes32[] calldata handles,
        bytes4 selector,
        uint32 gasLimit,
        uint16 finality,
        uint64 deadline
    ) external payable returns (bytes32 requestId);

    /// @notice Records the answer, credits the fee to the caller and calls the requester back.
    function fulfill(Request calldata request, bytes calldata cleartexts, bytes calldata proof) external;

    /// @notice Runs a failed callback again; anyone may.
    function redeliver(Request calldata request, bytes calldata cleartexts, uint32 gasLimit) external;

    /// @notice Shortens the deadline to now; the fee comes back by `expire`. Requester only.
    function cancel(Request calldata request) external;

    /// @notice Ends a request past its deadline and grace time, or of a destroyed context; anyone may.
    function expire(Request calldata request) external;

    /// @notice Adds to the fee of an open request; anyone may.
    function addFee(Request calldata request) external payable;

    /// @notice Pays the caller's credits out.
    function withdraw(address to) external;

    /// @notice Stops new requests, and only these. Guardian only.
    function pause() external;

    /// @notice Admits new requests again. Guardian only.
    function unpause() external;

    /// @notice Id of a request on this chain and gateway.
    function requestIdOf(Request calldata request) external view returns (bytes32);

    /// @notice State, and while open also effective deadline and fee (else zero).
    function stateOf(bytes32 requestId) external view returns (State state, uint64 effectiveDeadline, uint256 fee);

    /// @notice Credits of an account.
    function creditOf(address account) external view returns (uint256);

    /// @notice Nonce of the next request of `requester`.
    function nonceOf(address requester) external view returns (uint64);

    /// @notice Least finality that a request may ask for (0xfffe and 0xffff are above all numbers).
    function minFinality() external view returns (uint16);

    /// @notice Who may pause new requests.
    function guardian() external view returns (address);
}
