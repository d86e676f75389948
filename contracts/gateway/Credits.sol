// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {IDecryptionGateway} from "../interfaces/IDecryptionGateway.sol";

/// @title Pull payments
/// @dev Ether leaves the gateway here only. Sum of credits + fees of open requests = balance (more only when ether was forced in).
abstract contract Credits {
    mapping(address account => uint256) private _credits;

    /// @dev Credits an account.
    function _credit(address account, uint256 amount) internal {
        if (amount != 0) _credits[account] += amount;
    }

    /// @dev Pays the caller's whole credit to `to`.
    function _withdraw(address to) internal {
        uint256 amount = _credits[msg.sender];
        if (amount == 0) revert IDecryptionGateway.NoCredit(msg.sender);
        _credits[msg.sender] = 0;
        emit IDecryptionGateway.Withdrawn(msg.sender, to, amount);
        (bool sent,) = to.call{value: amount}("");
        if (!sent) revert IDecryptionGateway.TransferFailed(to);
    }

    /// @dev Credit of an account.
    function _creditOf(address account) internal view returns (uint256) {
        return _credits[account];
    }
}
