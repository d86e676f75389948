// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Door for encrypted inputs
/// @notice A quorum of coprocessors has checked the user's zero-knowledge proof and signed
/// `CiphertextVerification(bytes32[] ctHandles,address userAddress,address contractAddress,uint256 contractChainId,bytes extraData)`.
/// @dev Proof: uint8 nHandles ‖ uint8 nSignatures ‖ nHandles × bytes32 ‖ nSignatures × (r ‖ s ‖ v) ‖ extraData.
interface IInputVerifier {
    /// @notice Who enters an input, and where.
    struct ContextUserInputs {
        address userAddress;
        address contractAddress;
    }

    /// @notice The proof is shorter than its own counts say.
    error TruncatedInputProof(uint256 length, uint256 expected);
    /// @notice The handle is not at the place in the list that its index byte names.
    error HandleNotInProof(bytes32 handle);

    /// @notice Reverts unless a quorum has bound `inputHandle` to this user, contract and chain.
    /// @return The handle itself.
    function verifyInput(ContextUserInputs calldata context, bytes32 inputHandle, bytes calldata inputProof)
        external
        view
        returns (bytes32);

    /// @notice The digest that coprocessors sign for a list of inputs.
    /// @param packedHandles the handles, 32 bytes each.
    function inputDigest(ContextUserInputs calldata context, bytes calldata packedHandles, bytes calldata extraData)
        external
        view
        returns (bytes32);

    /// @notice Nothing is cached between calls, so there is nothing to clean; kept for the ecosystem's library.
    function cleanTransientStorage() external;

    /// @notice The coprocessors.
    function getCoprocessorSigners() external view returns (address[] memory);

    /// @notice How many coprocessors must sign.
    function getThreshold() external view returns (uint256);
}
