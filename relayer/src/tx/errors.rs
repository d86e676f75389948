//! What a node's refusal of a transaction means. Nodes answer in prose, so this is a table of their sentences; every row
//! names where the sentence comes from.

/// What to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SendFault {
    /// The node has this very transaction already: it is sent.
    AlreadyKnown,
    /// The nonce is used: look for receipts.
    NonceTooLow,
    /// Earlier nonces are missing at this node: it comes right when these are there.
    NonceTooHigh,
    /// Another transaction with this nonce is in the pool and pays nearly as much, or more: replace it with a higher fee.
    ReplacementUnderpriced,
    /// The fee is below what the node or the block asks for: raise it.
    FeeTooLow,
    /// The account can't pay: wait, and say so loudly.
    InsufficientFunds,
    /// The node is out of room or busy: try again later.
    Transient,
    /// We ask too often: try again later, and less.
    RateLimited,
    /// This transaction will never be taken: its nonce is closed by a no-op.
    Permanent,
}

impl SendFault {
    /// Name in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SendFault::AlreadyKnown => "already-known",
            SendFault::NonceTooLow => "nonce-too-low",
            SendFault::NonceTooHigh => "nonce-too-high",
            SendFault::ReplacementUnderpriced => "replacement-underpriced",
            SendFault::FeeTooLow => "fee-too-low",
            SendFault::InsufficientFunds => "insufficient-funds",
            SendFault::Transient => "transient",
            SendFault::RateLimited => "rate-limited",
            SendFault::Permanent => "permanent",
        }
    }
}

struct Row {
    /// Lower-case part of the sentence.
    part: &'static str,
    fault: SendFault,
    /// Where the sentence comes from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for the test that no row is without"))]
    source: &'static str,
}

const fn row(part: &'static str, fault: SendFault, source: &'static str) -> Row {
    Row { part, fault, source }
}

use SendFault::{
    AlreadyKnown, FeeTooLow, InsufficientFunds, NonceTooHigh, NonceTooLow, Permanent, RateLimited,
    ReplacementUnderpriced, Transient,
};

/// First match wins: narrow sentences stand before the wide ones that they contain.
const TABLE: &[Row] = &[
    row("already known", AlreadyKnown, "go-ethereum core/txpool/errors.go ErrAlreadyKnown; also erigon, reth"),
    row("alreadyknown", AlreadyKnown, "NethermindEth/nethermind Nethermind.TxPool/AcceptTxResult.cs AlreadyKnown"),
    row("known transaction", AlreadyKnown, "hyperledger/besu RpcErrorType ETH_SEND_TX_ALREADY_KNOWN; geth before 1.9"),
    row(
        "existing tx with same hash",
        AlreadyKnown,
        "erigontech/erigon txpool DuplicateHash, \"INTERNAL_ERROR: existing tx with same hash\"",
    ),
    row(
        "already imported",
        AlreadyKnown,
        "foundry-rs/foundry#3759 (anvil, -32003); openethereum/parity-ethereum#7176 (-32010)",
    ),
    row("could not replace existing tx", ReplacementUnderpriced, "erigontech/erigon#5214"),
    row(
        "replacement transaction underpriced",
        ReplacementUnderpriced,
        "ethereum/go-ethereum#23081; also besu, reth, anvil",
    ),
    row("replacementnotallowed", ReplacementUnderpriced, "nethermind AcceptTxResult.cs ReplacementNotAllowed"),
    row(
        "another transaction with same nonce",
        ReplacementUnderpriced,
        "openethereum rpc/src/v1/helpers/errors.rs TooCheapToReplace",
    ),
    row(
        "nonce too low",
        NonceTooLow,
        "go-ethereum core/error.go ErrNonceTooLow; also besu (-32001), erigon, reth, anvil",
    ),
    row("nonce is too low", NonceTooLow, "openethereum rpc/src/v1/helpers/errors.rs Old"),
    row("oldnonce", NonceTooLow, "nethermind AcceptTxResult.cs OldNonce"),
    row(
        "invalid transaction nonce",
        NonceTooLow,
        "trufflesuite/ganache, \"the tx doesn't have the correct nonce\" family",
    ),
    row("nonce too high", NonceTooHigh, "go-ethereum core/error.go ErrNonceTooHigh; anvil without --order fifo"),
    row("noncegap", NonceTooHigh, "nethermind AcceptTxResult.cs NonceGap"),
    row("too distant from current sender nonce", NonceTooHigh, "besu RpcErrorType NONCE_TOO_FAR_IN_FUTURE_FOR_SENDER"),
    row("nonce has max value", Permanent, "go-ethereum core/error.go ErrNonceMax"),
    row(
        "insufficient funds",
        InsufficientFunds,
        "go-ethereum core/error.go ErrInsufficientFunds; also erigon, reth, anvil",
    ),
    row("insufficientfunds", InsufficientFunds, "nethermind AcceptTxResult.cs InsufficientFunds"),
    row(
        "upfront cost exceeds account balance",
        InsufficientFunds,
        "besu RpcErrorType TRANSACTION_UPFRONT_COST_EXCEEDS_BALANCE",
    ),
    row(
        "max priority fee per gas higher than max fee per gas",
        Permanent,
        "go-ethereum core/error.go ErrTipAboveFeeCap",
    ),
    row("less than block base fee", FeeTooLow, "go-ethereum core/error.go ErrFeeCapTooLow; also reth, anvil"),
    row("gas price below configured minimum", FeeTooLow, "besu RpcErrorType GAS_PRICE_TOO_LOW"),
    row("feetoolow", FeeTooLow, "nethermind AcceptTxResult.cs FeeTooLow and FeeTooLowToCompete"),
    row("gas price supplied is too low", FeeTooLow, "openethereum rpc/src/v1/helpers/errors.rs InsufficientGasPrice"),
    row("transaction underpriced", FeeTooLow, "go-ethereum core/txpool/errors.go ErrUnderpriced"),
    row("fee too low", FeeTooLow, "erigon txpool FeeTooLow"),
    row("txpool is full", Transient, "go-ethereum core/txpool/legacypool ErrTxPoolOverflow; also reth"),
    row(
        "in-flight transaction limit reached",
        Transient,
        "go-ethereum core/txpool/errors.go ErrInflightTxLimitReached",
    ),
    row(
        "exceeds block gas limit",
        Permanent,
        "go-ethereum core/txpool/errors.go ErrGasLimit; besu EXCEEDS_BLOCK_GAS_LIMIT",
    ),
    row("gas limit too high", Permanent, "go-ethereum core/error.go ErrGasLimitTooHigh (EIP-7825); also reth, anvil"),
    row("gaslimitexceeded", Permanent, "nethermind AcceptTxResult.cs GasLimitExceeded"),
    row("intrinsic gas too low", Permanent, "go-ethereum core/error.go ErrIntrinsicGas; also erigon, reth, anvil"),
    row("intrinsic gas exceeds gas limit", Permanent, "besu RpcErrorType INTRINSIC_GAS_EXCEEDS_LIMIT"),
    row("gas floor", Permanent, "go-ethereum core/error.go ErrFloorDataGas (EIP-7623); also reth"),
    row("oversized data", Permanent, "go-ethereum core/txpool/errors.go ErrOversizedData; also reth"),
    row("invalid sender", Permanent, "go-ethereum core/txpool/errors.go ErrInvalidSender"),
    row("invalid chain id", Permanent, "go-ethereum core/types ErrInvalidChainId; also anvil"),
    row("transaction type not supported", Permanent, "go-ethereum core/error.go ErrTxTypeNotSupported"),
    row("sender not an eoa", Permanent, "go-ethereum core/error.go ErrSenderNoEOA (EIP-3607)"),
    row("rlp:", Permanent, "go-ethereum rlp package, decoding of the raw bytes"),
    row("compute units per second", RateLimited, "namehash/ensnode#1022 (Alchemy)"),
    row("request rate limited", RateLimited, "CirclesUBI/circles-myxogastria#54 (Infura)"),
    row("over rate limit", RateLimited, "base/node#368 (-32016)"),
    row("rate limit", RateLimited, "fluencelabs/dev-rewards#20 (tenderly, -32005)"),
    row("too many requests", RateLimited, "base/node#368 (HTTP 429)"),
];

/// Classifies a refusal by its sentence. Whatever is not in the table is transient: trying again does no harm, since the
/// same signed transaction can be mined only once.
#[must_use]
pub fn classify(message: &str) -> SendFault {
    let message = message.to_lowercase();
    TABLE.iter().find(|row| message.contains(row.part)).map_or(Transient, |row| row.fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nodes say in full, next to what it means.
    const SAID: &[(&str, SendFault)] = &[
        ("already known", AlreadyKnown),
        ("AlreadyKnown", AlreadyKnown),
        ("Known transaction", AlreadyKnown),
        ("INTERNAL_ERROR: existing tx with same hash", AlreadyKnown),
        ("transaction already imported", AlreadyKnown),
        ("Transaction with the same hash was already imported.", AlreadyKnown),
        ("INTERNAL_ERROR: could not replace existing tx", ReplacementUnderpriced),
        ("replacement transaction underpriced", ReplacementUnderpriced),
        ("ReplacementNotAllowed", ReplacementUnderpriced),
        (
            "Transaction gas price is too low. There is another transaction with same nonce in the queue. Try increasing \
             the gas price or incrementing the nonce.",
            ReplacementUnderpriced,
        ),
        ("nonce too low: next nonce 5, tx nonce 4", NonceTooLow),
        ("Transaction nonce is too low. Try incrementing the nonce.", NonceTooLow),
        ("OldNonce, Current nonce: 7, nonce of rejected tx: 3", NonceTooLow),
        ("Invalid transaction nonce", NonceTooLow),
        ("nonce too high", NonceTooHigh),
        ("NonceGap, Future nonce. Expected nonce: 4", NonceTooHigh),
        ("Transaction nonce is too distant from current sender nonce", NonceTooHigh),
        ("nonce has max value", Permanent),
        ("insufficient funds for gas * price + value: address 0x… have 0 want 1", InsufficientFunds),
        ("InsufficientFunds, Account balance: 0", InsufficientFunds),
        ("Upfront cost exceeds account balance", InsufficientFunds),
        ("max priority fee per gas higher than max fee per gas", Permanent),
        ("max fee per gas less than block base fee", FeeTooLow),
        ("Gas price below configured minimum gas price", FeeTooLow),
        ("FeeTooLowToCompete", FeeTooLow),
        ("Transaction gas price supplied is too low. Minimal gas price: 1", FeeTooLow),
        ("transaction underpriced: tip needed 1, tip permitted 0", FeeTooLow),
        ("INTERNAL_ERROR: fee too low", FeeTooLow),
        ("txpool is full", Transient),
        ("in-flight transaction limit reached for delegated accounts", Transient),
        ("exceeds block gas limit", Permanent),
        ("transaction gas limit too high (cap: 16777216, tx: 30000000)", Permanent),
        ("GasLimitExceeded, Gas limit: 1", Permanent),
        ("intrinsic gas too low: gas 100, minimum needed 21000", Permanent),
        ("Intrinsic gas exceeds gas limit", Permanent),
        ("gas floor exceeds the gas limit", Permanent),
        ("oversized data: transaction size 131073, limit 131072", Permanent),
        ("invalid sender", Permanent),
        ("invalid chain id for signer: have 1 want 31337", Permanent),
        ("transaction type not supported", Permanent),
        ("sender not an eoa: address 0x…", Permanent),
        ("rlp: value size exceeds available input length", Permanent),
        ("Your app has exceeded its compute units per second capacity.", RateLimited),
        ("daily request count exceeded, request rate limited", RateLimited),
        ("over rate limit", RateLimited),
        ("rate limit exceeded", RateLimited),
        ("HTTP error 429: Too Many Requests", RateLimited),
        ("connection refused", Transient),
        ("request timed out", Transient),
        ("something that nobody has said before", Transient),
    ];

    #[test]
    fn sentences_of_nodes_are_understood() {
        for (said, fault) in SAID {
            assert_eq!(classify(said), *fault, "{said}");
        }
    }

    #[test]
    fn every_row_is_tried_and_names_its_source() {
        for row in TABLE {
            assert!(!row.source.is_empty());
            assert_eq!(row.part, row.part.to_lowercase());
            let first = |said: &str| TABLE.iter().find(|r| said.to_lowercase().contains(r.part)).map(|r| r.part);
            assert!(
                SAID.iter().any(|(said, _)| first(said) == Some(row.part)),
                "{} is shadowed or not tried",
                row.part
            );
        }
    }
}
