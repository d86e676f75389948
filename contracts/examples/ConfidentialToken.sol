// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {FheType} from "../interfaces/FheType.sol";
import {IAccessControl} from "../interfaces/IAccessControl.sol";
import {IFheExecutor} from "../interfaces/IFheExecutor.sol";

/// @title A token whose balances and transfers only their holders can read
/// @notice Balances are encrypted. A holder reads its own by user decryption; nobody else can, and the chain never shows one. Who sends to
/// whom is public, how much is not: a transfer of more than the sender has moves nothing, and looks the same.
/// @dev Names follow ERC-7984 where it has one for the same thing. For tests and demos: the owner mints at will.
contract ConfidentialToken {
    FheType private constant UINT64 = FheType.wrap(5);

    /// @notice Most that one `mint` makes.
    uint64 public constant MAX_MINT = 1_000_000_000_000;
    /// @notice Name.
    string public constant name = "Confidential Token";
    /// @notice Symbol.
    string public constant symbol = "CONF";
    /// @notice Places after the point.
    uint8 public constant decimals = 6;

    IFheExecutor private immutable _executor;
    IAccessControl private immutable _acl;

    /// @notice Who may mint.
    address public immutable owner;
    /// @notice Sum of what was minted, which is public. It fits into 64 bits, so no balance ever overflows.
    uint64 public totalSupply;
    /// @notice Handle of an account's encrypted balance; zero: it never had one.
    mapping(address account => bytes32 handle) public confidentialBalanceOf;

    /// @notice `amount`, a handle that both may decrypt, went from one account to the other; it may encrypt zero. `from` is zero when minted.
    event ConfidentialTransfer(address indexed from, address indexed to, bytes32 indexed amount);
    /// @notice The public amount of a minting.
    event Minted(address indexed to, uint64 amount, uint64 totalSupply);

    /// @notice Only the owner may do this.
    error NotOwner(address caller);
    /// @notice Tokens sent there would be lost.
    error InvalidReceiver(address to);
    /// @notice At most this much may be minted now.
    error MintTooLarge(uint64 amount, uint64 most);

    /// @param executor computes on handles.
    constructor(IFheExecutor executor) {
        owner = msg.sender;
        _executor = executor;
        _acl = IAccessControl(executor.accessControl());
    }

    /// @notice Makes tokens.
    /// @param to who gets them.
    /// @param amount how many, in the clear; at most `MAX_MINT`.
    // Executor and ACL are the system's own and call nobody back.
    // slither-disable-next-line reentrancy-no-eth
    function mint(address to, uint64 amount) external {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        uint64 room = type(uint64).max - totalSupply;
        uint64 most = room < MAX_MINT ? room : MAX_MINT;
        if (amount > most) revert MintTooLarge(amount, most);
        totalSupply += amount;
        emit Minted(to, amount, totalSupply);
        _add(address(0), to, _executor.trivialEncrypt(amount, UINT64));
    }

    /// @notice Sends an encrypted amount, or nothing if the sender has less.
    /// @param to who gets it.
    /// @param encryptedAmount an encrypted uint64, bound to the sender and to this contract by its proof.
    /// @param inputProof the coprocessors' signatures.
    /// @return transferred handle of what was moved: the amount or zero.
    // Executor and ACL are the system's own and call nobody back.
    // slither-disable-next-line reentrancy-no-eth
    function confidentialTransfer(address to, bytes32 encryptedAmount, bytes calldata inputProof)
        external
        returns (bytes32 transferred)
    {
        bytes32 amount = _executor.verifyInput(encryptedAmount, msg.sender, inputProof, UINT64);
        bytes32 balance = _balance(msg.sender);
        bytes32 enough = _executor.fheGe(balance, amount, 0x00);
        transferred = _executor.fheIfThenElse(enough, amount, _executor.trivialEncrypt(0, UINT64));
        _setBalance(msg.sender, _executor.fheSub(balance, transferred, 0x00));
        _acl.allow(transferred, msg.sender);
        _add(msg.sender, to, transferred);
    }

    /// @dev Credits a receiver, who may be the sender: its balance is read again.
    function _add(address from, address to, bytes32 amount) private {
        if (to == address(0) || to == address(this)) revert InvalidReceiver(to);
        _setBalance(to, _executor.fheAdd(_balance(to), amount, 0x00));
        _acl.allow(amount, address(this));
        _acl.allow(amount, to);
        emit ConfidentialTransfer(from, to, amount);
    }

    /// @dev A balance that can be computed with.
    function _balance(address account) private returns (bytes32 handle) {
        handle = confidentialBalanceOf[account];
        if (handle == bytes32(0)) handle = _executor.trivialEncrypt(0, UINT64);
    }

    /// @dev User decryption wants a lasting right of both, the reader and the contract in whose name it reads.
    function _setBalance(address account, bytes32 handle) private {
        confidentialBalanceOf[account] = handle;
        _acl.allow(handle, address(this));
        _acl.allow(handle, account);
    }
}
