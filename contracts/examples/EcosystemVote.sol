// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FHE, ebool, euint64, externalEbool} from "@fhevm/solidity/lib/FHE.sol";
import {CoprocessorConfig} from "@fhevm/solidity/lib/Impl.sol";

/// @title A vote written only against the npm package `@fhevm/solidity`
/// @notice Shows that a contract of the ecosystem runs here by pointing `FHE.setCoprocessor` at our addresses. Decryption is pulled:
/// anyone fetches the proof of the public tally off chain and submits it.
contract EcosystemVote {
    /// @notice The encrypted number of yes votes.
    euint64 public tally;
    /// @notice Whether the tally is public.
    bool public closed;
    /// @notice Whether `result` was proven.
    bool public decided;
    /// @notice The number of yes votes.
    uint64 public result;
    /// @notice Who may close.
    address public immutable owner;
    /// @notice Who has voted.
    mapping(address voter => bool) public hasVoted;

    /// @notice The number of yes votes.
    event Decided(uint64 result);

    /// @notice Not allowed now, or not to this sender.
    error Rejected();

    /// @param config addresses of ACL, executor and verifier.
    constructor(CoprocessorConfig memory config) {
        FHE.setCoprocessor(config);
        owner = msg.sender;
    }

    /// @notice Casts an encrypted boolean.
    // Executor and ACL are the system's own and call nobody back.
    // slither-disable-next-line reentrancy-no-eth
    function vote(externalEbool ballot, bytes calldata inputProof) external {
        if (closed || hasVoted[msg.sender]) revert Rejected();
        hasVoted[msg.sender] = true;
        ebool yes = FHE.fromExternal(ballot, inputProof);
        tally = FHE.add(tally, FHE.asEuint64(yes));
        // It returns its argument.
        // slither-disable-next-line unused-return
        FHE.allowThis(tally);
    }

    /// @notice Makes the tally public.
    function close() external {
        if (msg.sender != owner || closed) revert Rejected();
        closed = true;
        tally = FHE.makePubliclyDecryptable(tally);
    }

    /// @notice Proves the result; anyone may.
    function resolve(bytes calldata cleartexts, bytes calldata decryptionProof) external {
        if (!closed || decided) revert Rejected();
        bytes32[] memory handles = new bytes32[](1);
        handles[0] = FHE.toBytes32(tally);
        decided = true;
        result = abi.decode(cleartexts, (uint64));
        FHE.checkSignatures(handles, cleartexts, decryptionProof);
        emit Decided(result);
    }
}
