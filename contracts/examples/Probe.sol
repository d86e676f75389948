// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FheType} from "../interfaces/FheType.sol";
import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";
import {IFheExecutor} from "../interfaces/IFheExecutor.sol";

/// @title The smallest dApp that asks for decryptions, for trials of a deployment
/// @notice Anyone may make it encrypt public values and have them decrypted: it keeps no secrets.
contract Probe {
    uint32 private constant CALLBACK_GAS = 1_000_000;

    IFheExecutor private immutable _executor;
    IAccessControl private immutable _acl;
    IDecryptionGateway private immutable _gateway;

    /// @notice Handles made so far, in order.
    bytes32[] public handles;
    /// @notice Hash of the cleartexts that came back for a request; zero before.
    mapping(bytes32 requestId => bytes32 hash) public answers;
    /// @notice Callbacks that ran for a request.
    mapping(bytes32 requestId => uint256 count) public callbacks;

    /// @notice A decryption was asked for.
    event Asked(bytes32 indexed requestId);
    /// @notice An answer came.
    event Answered(bytes32 indexed requestId, bytes cleartexts);

    /// @notice Only the gateway calls back.
    error NotGateway(address caller);

    /// @param executor computes on handles.
    /// @param gateway decrypts.
    constructor(IFheExecutor executor, IDecryptionGateway gateway) {
        _executor = executor;
        _acl = IAccessControl(executor.accessControl());
        _gateway = gateway;
    }

    /// @notice Encrypts public values; the handles are appended to `handles`.
    // Executor and ACL are the system's own and call nobody back.
    // slither-disable-next-line reentrancy-no-eth
    function make(uint256[] calldata values, uint8 toType) external {
        for (uint256 i = 0; i < values.length; ++i) {
            bytes32 handle = _executor.trivialEncrypt(values[i], FheType.wrap(toType));
            _acl.allow(handle, address(this));
            handles.push(handle);
        }
    }

    /// @notice Makes handles publicly decryptable.
    function publish(bytes32[] calldata list) external {
        _acl.allowForDecryption(list);
    }

    /// @notice Lets an account read handles that this contract holds.
    function share(bytes32[] calldata list, address account) external {
        for (uint256 i = 0; i < list.length; ++i) {
            _acl.allow(list[i], account);
        }
    }

    /// @notice Asks for the decryption of `list`.
    function ask(bytes32[] calldata list, uint16 finality, uint64 deadline)
        external
        payable
        returns (bytes32 requestId)
    {
        requestId = _gateway.requestDecryption{value: msg.value}(
            list, this.onDecrypted.selector, CALLBACK_GAS, finality, deadline
        );
        emit Asked(requestId);
    }

    /// @notice Cancels a request of this contract.
    function cancel(IDecryptionGateway.Request calldata request) external {
        _gateway.cancel(request);
    }

    /// @notice The gateway brings the answer.
    function onDecrypted(bytes32 requestId, bytes calldata cleartexts) external {
        if (msg.sender != address(_gateway)) revert NotGateway(msg.sender);
        answers[requestId] = keccak256(cleartexts);
        ++callbacks[requestId];
        emit Answered(requestId, cleartexts);
    }
}
