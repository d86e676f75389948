// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FheType} from "../interfaces/FheType.sol";
import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";
import {IFheExecutor} from "../interfaces/IFheExecutor.sol";

/// @title A yes/no vote whose ballots nobody ever sees
/// @notice Each ballot is an encrypted boolean; only the number of yes votes is decrypted, after closing. A ballot that encrypts
/// anything but 0 counts as one yes: it is a boolean when it is added.
contract ConfidentialVote {
    FheType private constant BOOL = FheType.wrap(0);
    FheType private constant UINT64 = FheType.wrap(5);
    uint32 private constant CALLBACK_GAS = 100_000;

    IFheExecutor private immutable _executor;
    IAccessControl private immutable _acl;
    IDecryptionGateway private immutable _gateway;

    /// @notice Who may close the vote and take back an unused fee.
    address public immutable owner;
    /// @notice Handle of the encrypted number of yes votes.
    bytes32 public tally;
    /// @notice Ballots cast.
    uint256 public ballots;
    /// @notice The decryption request; zero while the vote is open.
    bytes32 public requestId;
    /// @notice Whether `result` has arrived.
    bool public decided;
    /// @notice The number of yes votes.
    uint64 public result;
    /// @notice Who has voted.
    mapping(address voter => bool) public hasVoted;

    /// @notice A ballot came in.
    event BallotCast(address indexed voter, bytes32 ballot, bytes32 tally);
    /// @notice The vote is closed; the tally is being decrypted.
    event VoteClosed(bytes32 indexed requestId, bytes32 tally);
    /// @notice The number of yes votes of `ballots`.
    event VoteDecided(uint64 result, uint256 ballots);

    /// @notice The voter has voted already.
    error AlreadyVoted(address voter);
    /// @notice The vote is closed already.
    error Closed();
    /// @notice Only the owner may do this.
    error NotOwner(address caller);
    /// @notice Only the gateway calls back, once, about our request.
    error UnexpectedCallback(address caller, bytes32 requestId);

    modifier onlyOwner() {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        _;
    }

    /// @param executor computes on handles.
    /// @param gateway decrypts the tally.
    constructor(IFheExecutor executor, IDecryptionGateway gateway) {
        owner = msg.sender;
        _executor = executor;
        _acl = IAccessControl(executor.accessControl());
        _gateway = gateway;
        _setTally(executor.trivialEncrypt(0, UINT64));
    }

    /// @notice Casts a ballot.
    /// @param ballot an encrypted boolean, bound to the sender and to this contract by its proof.
    /// @param inputProof the coprocessors' signatures.
    // Executor and ACL are the system's own and call nobody back.
    // slither-disable-next-line reentrancy-no-eth
    function vote(bytes32 ballot, bytes calldata inputProof) external {
        if (requestId != 0) revert Closed();
        if (hasVoted[msg.sender]) revert AlreadyVoted(msg.sender);
        hasVoted[msg.sender] = true;
        ++ballots;
        bytes32 checked = _executor.verifyInput(ballot, msg.sender, inputProof, BOOL);
        bytes32 newTally = _executor.fheAdd(tally, _executor.cast(checked, UINT64), 0x00);
        _setTally(newTally);
        emit BallotCast(msg.sender, ballot, newTally);
    }

    /// @notice Closes the vote and asks for the tally. The value sent is the fee.
    /// @param finality see `IDecryptionGateway.requestDecryption`.
    /// @param deadline see `IDecryptionGateway.requestDecryption`. After it, `close` may be called again if no result came.
    function close(uint16 finality, uint64 deadline) external payable onlyOwner {
        if (requestId != 0) {
            // Deadline and fee of the old request do not matter.
            // slither-disable-next-line unused-return
            (IDecryptionGateway.State state,,) = _gateway.stateOf(requestId);
            if (state != IDecryptionGateway.State.Expired) revert Closed();
        }
        bytes32[] memory handles = new bytes32[](1);
        handles[0] = tally;
        requestId = _gateway.requestDecryption{value: msg.value}(
            handles, this.onDecrypted.selector, CALLBACK_GAS, finality, deadline
        );
        emit VoteClosed(requestId, tally);
    }

    /// @notice The gateway brings the result.
    function onDecrypted(bytes32 id, bytes calldata cleartexts) external {
        if (msg.sender != address(_gateway) || id != requestId || decided) revert UnexpectedCallback(msg.sender, id);
        decided = true;
        result = abi.decode(cleartexts, (uint64));
        emit VoteDecided(result, ballots);
    }

    /// @notice Takes back the fee of an expired request.
    function reclaim(address to) external onlyOwner {
        _gateway.withdraw(to);
    }

    /// @dev Keeps the tally usable in later transactions.
    function _setTally(bytes32 handle) private {
        tally = handle;
        _acl.allow(handle, address(this));
    }
}
