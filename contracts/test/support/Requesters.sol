// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";

/// @dev A dApp that asks and remembers what it is told.
contract Requester {
    IDecryptionGateway internal immutable _gateway;
    bytes32 public lastId;
    bytes public lastCleartexts;
    uint256 public calls;

    constructor(IDecryptionGateway gateway) {
        _gateway = gateway;
    }

    receive() external payable {}

    function ask(bytes32[] calldata handles, bytes4 selector, uint32 gasLimit, uint64 deadline)
        external
        payable
        returns (bytes32)
    {
        return _gateway.requestDecryption{value: msg.value}(handles, selector, gasLimit, 1, deadline);
    }

    function onDecrypted(bytes32 requestId, bytes calldata cleartexts) external virtual {
        lastId = requestId;
        lastCleartexts = cleartexts;
        ++calls;
    }

    function cancel(IDecryptionGateway.Request calldata request) external {
        _gateway.cancel(request);
    }

    function withdraw(address to) external {
        _gateway.withdraw(to);
    }
}

/// @dev Callbacks that try everything a hostile dApp can.
contract Attacker is Requester {
    enum Attack {
        None,
        Revert,
        Burn,
        ReturnBomb,
        RevertBomb,
        Fulfill,
        Redeliver,
        Expire,
        Cancel,
        AddFee,
        Withdraw
    }

    Attack public attack;
    IDecryptionGateway.Request private _request;
    bytes private _cleartexts;
    bytes private _proof;
    bool public innerSucceeded;

    constructor(IDecryptionGateway gateway) Requester(gateway) {}

    function arm(
        Attack attack_,
        IDecryptionGateway.Request calldata request,
        bytes calldata cleartexts,
        bytes calldata proof
    ) external {
        (attack, _request, _cleartexts, _proof) = (attack_, request, cleartexts, proof);
    }

    function onDecrypted(bytes32, bytes calldata) external override {
        ++calls;
        if (attack == Attack.Revert) revert("no");
        if (attack == Attack.Burn) {
            assembly {
                invalid()
            }
        }
        if (attack == Attack.ReturnBomb) {
            assembly {
                return(0, 200000)
            }
        }
        if (attack == Attack.RevertBomb) {
            assembly {
                revert(0, 200000)
            }
        }
        bytes memory data;
        uint256 value;
        if (attack == Attack.Fulfill) data = abi.encodeCall(_gateway.fulfill, (_request, _cleartexts, _proof));
        if (attack == Attack.Redeliver) data = abi.encodeCall(_gateway.redeliver, (_request, _cleartexts, 10_000_000));
        if (attack == Attack.Expire) data = abi.encodeCall(_gateway.expire, (_request));
        if (attack == Attack.Cancel) data = abi.encodeCall(_gateway.cancel, (_request));
        if (attack == Attack.AddFee) {
            (data, value) = (abi.encodeCall(_gateway.addFee, (_request)), address(this).balance);
        }
        if (attack == Attack.Withdraw) data = abi.encodeCall(_gateway.withdraw, (address(this)));
        if (data.length != 0) (innerSucceeded,) = address(_gateway).call{value: value}(data);
    }
}
