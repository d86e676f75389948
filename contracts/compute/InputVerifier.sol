// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IInputVerifier} from "../interfaces/IInputVerifier.sol";
import {ExtraData} from "../libraries/ExtraData.sol";
import {Handles} from "../libraries/Handles.sol";
import {Signatures} from "../libraries/Signatures.sol";
import {CoprocessorQuorum} from "./CoprocessorQuorum.sol";

/// @title Door for encrypted inputs
contract InputVerifier is IInputVerifier, EIP712, CoprocessorQuorum {
    bytes32 private constant VERIFICATION_TYPE = keccak256(
        "CiphertextVerification(bytes32[] ctHandles,address userAddress,address contractAddress,uint256 contractChainId,bytes extraData)"
    );

    /// @param signers the coprocessors.
    /// @param threshold how many must sign.
    constructor(address[] memory signers, uint256 threshold)
        EIP712("InputVerification", "1")
        CoprocessorQuorum(signers, threshold)
    {}

    /// @inheritdoc IInputVerifier
    function verifyInput(ContextUserInputs calldata context, bytes32 inputHandle, bytes calldata inputProof)
        external
        view
        returns (bytes32)
    {
        Handles.check(inputHandle);
        if (inputProof.length < 2) revert TruncatedInputProof(inputProof.length, 2);
        uint256 count = uint8(inputProof[0]);
        uint256 handlesEnd = 2 + 32 * count;
        uint256 end = handlesEnd + 65 * uint256(uint8(inputProof[1]));
        if (inputProof.length < end) revert TruncatedInputProof(inputProof.length, end);

        uint256 index = Handles.indexOf(inputHandle);
        if (index >= count || bytes32(inputProof[2 + 32 * index:34 + 32 * index]) != inputHandle) {
            revert HandleNotInProof(inputHandle);
        }
        bytes calldata extraData = inputProof[end:];
        // Only its form matters here: nothing on this chain depends on what it names.
        // slither-disable-next-line unused-return
        ExtraData.parse(extraData);
        // Which coprocessors signed is of no interest.
        // slither-disable-next-line unused-return
        Signatures.requirePacked(
            inputDigest(context, inputProof[2:handlesEnd], extraData),
            inputProof[handlesEnd:end],
            getCoprocessorSigners(),
            getThreshold()
        );
        return inputHandle;
    }

    /// @inheritdoc IInputVerifier
    function cleanTransientStorage() external {}

    /// @inheritdoc IInputVerifier
    function inputDigest(ContextUserInputs calldata context, bytes calldata packedHandles, bytes calldata extraData)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    VERIFICATION_TYPE,
                    keccak256(packedHandles),
                    context.userAddress,
                    context.contractAddress,
                    block.chainid,
                    keccak256(extraData)
                )
            )
        );
    }

    /// @inheritdoc IInputVerifier
    function getCoprocessorSigners()
        public
        view
        override(IInputVerifier, CoprocessorQuorum)
        returns (address[] memory)
    {
        return super.getCoprocessorSigners();
    }

    /// @inheritdoc IInputVerifier
    function getThreshold() public view override(IInputVerifier, CoprocessorQuorum) returns (uint256) {
        return super.getThreshold();
    }
}
