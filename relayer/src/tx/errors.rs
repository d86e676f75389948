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
    row(
        "already known",
        AlreadyKnown,
        "ethereum/go-ethereum#22093; from one of several endpoints: ithacaxyz/relay#452, decred/dcrdex#3498",
    ),
    row("alreadyknown", AlreadyKnown, "NethermindEth/nethermind#4148 and #12153"),
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
    row("tx already in cache", AlreadyKnown, "orientwalt/htdf#12 (nodes on Cosmos)"),
    row("tx already exist", AlreadyKnown, "Conflux-Chain/conflux-developer-site#55"),
    // Not what it sounds like: the transaction before this one has not arrived yet.
    row("future transaction tries to replace pending", NonceTooHigh, "ethereum/go-ethereum#26890 (geth from 1.11.4)"),
    row("could not replace existing tx", ReplacementUnderpriced, "erigontech/erigon#5214"),
    row(
        "replacement transaction underpriced",
        ReplacementUnderpriced,
        "ethereum/go-ethereum#23081, MetaMask/metamask-extension#1749; also besu, reth, anvil",
    ),
    row("replacementnotallowed", ReplacementUnderpriced, "NethermindEth/nethermind#12153"),
    row("same nonce in the queue", ReplacementUnderpriced, "openethereum/parity-ethereum#10931, both wordings"),
    row("tx with same nonce already inserted", ReplacementUnderpriced, "Conflux-Chain/conflux-developer-site#55"),
    row(
        "attempted to replace a pooled transaction",
        ReplacementUnderpriced,
        "lambdaclass/ethrex#4842, next to \"Nonce for account too low\"",
    ),
    row(
        "nonce too low",
        NonceTooLow,
        "tradingstrategy-ai/web3-ethereum-defi#153 (several endpoints), foundry-rs/foundry#4173; also besu (-32001)",
    ),
    row("nonce is too low", NonceTooLow, "MetaMask/metamask-extension#1756 (parity)"),
    row("nonce for account too low", NonceTooLow, "lambdaclass/ethrex#4842"),
    row("oldnonce", NonceTooLow, "nethermind AcceptTxResult.cs OldNonce"),
    row("too stale nonce", NonceTooLow, "Conflux-Chain/conflux-developer-site#55"),
    row("invalid transaction nonce", NonceTooLow, "smartcontractkit/chainlink#7198 (Arbitrum)"),
    // Too low or too high, it does not say; receipts tell.
    row("wrong transaction nonce", NonceTooLow, "NethermindEth/nethermind#8126"),
    row(
        "nonce too high",
        NonceTooHigh,
        "OffchainLabs/arbitrum-docs#3291 (Arbitrum); go-ethereum core/error.go ErrNonceTooHigh",
    ),
    row("noncegap", NonceTooHigh, "NethermindEth/nethermind#4845, smartcontractkit/chainlink#7999"),
    row("too distant from current sender nonce", NonceTooHigh, "besu-eth/besu#4835"),
    row("in too distant future", NonceTooHigh, "Conflux-Chain/conflux-developer-site#55"),
    row("nonce has max value", Permanent, "go-ethereum core/error.go ErrNonceMax (EIP-2681)"),
    row(
        "insufficient funds",
        InsufficientFunds,
        "matter-labs/zksync-era#3695 (-32003), MetaMask/metamask-extension#2663; also erigon, anvil",
    ),
    row("insufficientfunds", InsufficientFunds, "NethermindEth/nethermind#12153"),
    row(
        "upfront cost exceeds account balance",
        InsufficientFunds,
        "besu RpcErrorType TRANSACTION_UPFRONT_COST_EXCEEDS_BALANCE",
    ),
    row("would cause overdraft", InsufficientFunds, "paradigmxyz/reth#2308, of go-ethereum's txpool ErrOverdraft"),
    row(
        "max priority fee per gas higher than max fee per gas",
        Permanent,
        "go-ethereum core/error.go ErrTipAboveFeeCap",
    ),
    // The node's own limit for price times gas; tomorrow's price may be below it.
    row(
        "exceeds the configured cap",
        Permanent,
        "ethers-io/ethers.js#1263, ethereum-optimism/optimism#8819, paradigmxyz/reth#23450",
    ),
    row(
        "less than block base fee",
        FeeTooLow,
        "Giveth/giveth-bridge#39, ApeWorX/ape-foundry#81 (anvil), smartcontractkit/chainlink#7198 (Arbitrum)",
    ),
    row("gas price below configured minimum", FeeTooLow, "besu-eth/besu#4881"),
    row("feetoolow", FeeTooLow, "NethermindEth/nethermind#4319 and #12153, FeeTooLow and FeeTooLowToCompete"),
    row("gas price supplied is too low", FeeTooLow, "openethereum rpc/src/v1/helpers/errors.rs InsufficientGasPrice"),
    row("does not satisfy your node's minimal gas price", FeeTooLow, "openethereum/parity-ethereum#10931"),
    row("transaction underpriced", FeeTooLow, "NethermindEth/nethermind#12153, geth's words"),
    row("fee too low", FeeTooLow, "NethermindEth/nethermind#4319; also erigon txpool FeeTooLow"),
    row("txpool is full", Transient, "scroll-tech/rollup-node#112 (reth); geth legacypool ErrTxPoolOverflow"),
    row(
        "in-flight transaction limit reached",
        Transient,
        "verdikta/verdikta-arbiter#29, ethereum/go-ethereum#35739 (accounts with code)",
    ),
    row(
        "exceeds block gas limit",
        Permanent,
        "go-ethereum core/txpool/errors.go ErrGasLimit; besu EXCEEDS_BLOCK_GAS_LIMIT",
    ),
    row(
        "gas limit too high",
        Permanent,
        "flashbots/rpc-endpoint#191 (EIP-7825), core.ErrGasLimitTooHigh of go-ethereum",
    ),
    row("gaslimitexceeded", Permanent, "smartcontractkit/chainlink#7999 (nethermind)"),
    row("intrinsic gas too low", Permanent, "MetaMask/metamask-extension#3135; also erigon, reth, anvil"),
    row("intrinsic gas exceeds gas limit", Permanent, "besu RpcErrorType INTRINSIC_GAS_EXCEEDS_LIMIT"),
    row("gas floor", Permanent, "go-ethereum core/error.go ErrFloorDataGas (EIP-7623); also reth"),
    row("oversized data", Permanent, "go-ethereum core/txpool/errors.go ErrOversizedData; also reth"),
    row("invalid sender", Permanent, "go-ethereum core/txpool/errors.go ErrInvalidSender"),
    row("failedtoresolvesender", Permanent, "smartcontractkit/chainlink#7999 (nethermind)"),
    row("invalid chain id", Permanent, "go-ethereum core/types ErrInvalidChainId; also anvil"),
    row("transaction type not supported", Permanent, "go-ethereum core/error.go ErrTxTypeNotSupported"),
    row(
        "sender not an eoa",
        Permanent,
        "go-ethereum core/error.go ErrSenderNoEOA (EIP-3607), NethermindEth/nethermind#12153",
    ),
    row("senderiscontract", Permanent, "smartcontractkit/chainlink#7999 (nethermind)"),
    row("rlp:", Permanent, "go-ethereum rlp package, decoding of the raw bytes"),
    row("compute units per second", RateLimited, "namehash/ensnode#1022, latticexyz/mud#1522 (Alchemy)"),
    row("credits limited to", RateLimited, "latticexyz/mud#1522 (QuickNode, -32012)"),
    row("request rate limited", RateLimited, "CirclesUBI/circles-myxogastria#54, gochain/web3#180 (Infura, -32005)"),
    row("request rate exceeded", RateLimited, "ConsenSys-archive/truffle#3200 (Infura)"),
    row("over rate limit", RateLimited, "base/node#368 (-32016)"),
    row("rate limit", RateLimited, "fluencelabs/dev-rewards#20 (tenderly, -32005)"),
    row("too many requests", RateLimited, "base/node#368, gochain/web3#180 (HTTP 429)"),
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
        ("Tx already in cache", AlreadyKnown),
        ("tx already exist", AlreadyKnown),
        ("future transaction tries to replace pending", NonceTooHigh),
        ("INTERNAL_ERROR: could not replace existing tx", ReplacementUnderpriced),
        ("replacement transaction underpriced", ReplacementUnderpriced),
        ("ReplacementNotAllowed", ReplacementUnderpriced),
        (
            "Transaction gas price is too low. There is another transaction with same nonce in the queue. Try increasing \
             the gas price or incrementing the nonce.",
            ReplacementUnderpriced,
        ),
        (
            "Transaction gas price 38856828wei is too low. There is another transaction with the same nonce in the queue \
             with a gas price: 5000000000wei. Try increasing the gas price or incrementing the nonce.",
            ReplacementUnderpriced,
        ),
        (
            "Failed imported to deferred pool: Tx with same nonce already inserted. To replace it, you need to specify a gas \
             price > 5",
            ReplacementUnderpriced,
        ),
        ("Attempted to replace a pooled transaction with an underpriced one", ReplacementUnderpriced),
        ("nonce too low: next nonce 5, tx nonce 4", NonceTooLow),
        ("err: nonce too low: address 0x…, tx: 4 state: 5 (supplied gas 21000)", NonceTooLow),
        ("Nonce for account too low", NonceTooLow),
        ("Transaction 0x… is discarded due to a too stale nonce", NonceTooLow),
        ("wrong transaction nonce", NonceTooLow),
        ("Transaction nonce is too low. Try incrementing the nonce.", NonceTooLow),
        ("OldNonce, Current nonce: 7, nonce of rejected tx: 3", NonceTooLow),
        ("Invalid transaction nonce", NonceTooLow),
        ("nonce too high", NonceTooHigh),
        ("NonceGap, Future nonce. Expected nonce: 4", NonceTooHigh),
        ("Transaction nonce is too distant from current sender nonce", NonceTooHigh),
        ("Transaction 0x… is discarded due to in too distant future", NonceTooHigh),
        ("nonce has max value", Permanent),
        ("insufficient funds for gas * price + value: address 0x… have 0 want 1", InsufficientFunds),
        ("InsufficientFunds, Account balance: 0", InsufficientFunds),
        ("Upfront cost exceeds account balance", InsufficientFunds),
        ("transaction would cause overdraft", InsufficientFunds),
        ("max priority fee per gas higher than max fee per gas", Permanent),
        ("tx fee (1.10 ether) exceeds the configured cap (1.00 ether)", Permanent),
        ("max fee per gas less than block base fee: address 0x…, maxFeePerGas: 1 baseFee: 13", FeeTooLow),
        ("Gas price below configured minimum gas price", FeeTooLow),
        ("FeeTooLowToCompete", FeeTooLow),
        ("Transaction gas price supplied is too low. Minimal gas price: 1", FeeTooLow),
        (
            "Transaction gas price is too low. It does not satisfy your node's minimal gas price (minimal: 2, got: 1).",
            FeeTooLow,
        ),
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
        ("FailedToResolveSender", Permanent),
        ("SenderIsContract", Permanent),
        ("invalid chain id for signer: have 1 want 31337", Permanent),
        ("transaction type not supported", Permanent),
        ("sender not an eoa: address 0x…", Permanent),
        ("rlp: value size exceeds available input length", Permanent),
        ("Your app has exceeded its compute units per second capacity.", RateLimited),
        ("daily request count exceeded, request rate limited", RateLimited),
        ("credits limited to 6000/sec", RateLimited),
        ("project ID request rate exceeded", RateLimited),
        ("RPC endpoint https://one.example: rate limit", RateLimited),
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
            let thread = row.source.contains('#') && row.source.contains('/');
            let client = ["geth", "go-ethereum", "besu", "nethermind", "erigon", "openethereum"];
            assert!(thread || client.iter().any(|name| row.source.contains(name)), "{}: {}", row.part, row.source);
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
