// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @dev A smart account with one key.
contract Wallet is IERC1271 {
    address private immutable _key;

    constructor(address key) {
        _key = key;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        return failure == ECDSA.RecoverError.NoError && signer == _key
            ? IERC1271.isValidSignature.selector
            : bytes4(0xffffffff);
    }
}

/// @dev A smart account that answers in the way it was told to.
contract OddWallet {
    enum Answer {
        Magic,
        WrongMagic,
        Zero,
        TrueWord,
        DirtyMagic,
        ShiftedMagic,
        Empty,
        Short,
        Long,
        Revert,
        RevertWithMagic,
        Burn,
        Loop,
        Invalid,
        ReturnBomb,
        RevertBomb,
        Write,
        MagicIfGasIsAsPromised
    }

    Answer private immutable _answer;
    uint256 private _written;

    constructor(Answer answer) {
        _answer = answer;
    }

    /// @dev The answer to every call.
    fallback() external {
        uint256 left = gasleft();
        bytes32 magic = bytes32(IERC1271.isValidSignature.selector);
        if (_answer == Answer.Magic) _return(magic, 32);
        if (_answer == Answer.WrongMagic) _return(bytes32(bytes4(0x1626ba7f)), 32);
        if (_answer == Answer.Zero) _return(0, 32);
        if (_answer == Answer.TrueWord) _return(bytes32(uint256(1)), 32);
        if (_answer == Answer.DirtyMagic) _return(magic | bytes32(uint256(1)), 32);
        if (_answer == Answer.ShiftedMagic) _return(magic >> 224, 32);
        if (_answer == Answer.Empty) _return(magic, 0);
        if (_answer == Answer.Short) _return(magic, 31);
        if (_answer == Answer.Long) _return(magic, 33);
        if (_answer == Answer.ReturnBomb) _return(magic, 200_000);
        if (_answer == Answer.Revert) revert("no");
        if (_answer == Answer.RevertWithMagic || _answer == Answer.RevertBomb) {
            uint256 size = _answer == Answer.RevertBomb ? 200_000 : 32;
            assembly {
                mstore(0, magic)
                revert(0, size)
            }
        }
        while (_answer == Answer.Burn) {
            assembly {
                pop(keccak256(0, 0x10000))
            }
        }
        while (_answer == Answer.Loop) {}
        if (_answer == Answer.Invalid) {
            assembly {
                invalid()
            }
        }
        if (_answer == Answer.Write) {
            ++_written;
            _return(magic, 32);
        }
        // What the way to here has cost is a few hundred.
        _return(left <= 2_000_000 && left > 1_999_000 ? magic : bytes32(0), 32);
    }

    function _return(bytes32 word, uint256 size) private pure {
        assembly {
            mstore(0, word)
            return(0, size)
        }
    }
}
