//! The signed structs. Names and order of fields are the type strings: a change here changes every signature.

use alloy_sol_types::sol;

sol! {
    /// The answer to a public decryption.
    #[derive(Debug, PartialEq, Eq)]
    struct PublicDecryptVerification {
        bytes32[] ctHandles;
        bytes decryptedResult;
        bytes extraData;
    }

    /// One party's share of a user decryption.
    #[derive(Debug, PartialEq, Eq)]
    struct UserDecryptResponseVerification {
        bytes publicKey;
        bytes32[] ctHandles;
        bytes userDecryptedShare;
        bytes extraData;
    }

    /// A user's permit.
    #[derive(Debug, PartialEq, Eq)]
    struct UserDecryptRequestVerification {
        bytes publicKey;
        address[] contractAddresses;
        uint256 startTimestamp;
        uint256 durationDays;
        bytes extraData;
    }

    /// A delegate's permit.
    #[derive(Debug, PartialEq, Eq)]
    struct DelegatedUserDecryptRequestVerification {
        bytes publicKey;
        address[] contractAddresses;
        address delegatorAddress;
        uint256 startTimestamp;
        uint256 durationDays;
        bytes extraData;
    }

    /// Verified encrypted inputs.
    #[derive(Debug, PartialEq, Eq)]
    struct CiphertextVerification {
        bytes32[] ctHandles;
        address userAddress;
        address contractAddress;
        uint256 contractChainId;
        bytes extraData;
    }

    /// The digest of one squashed ciphertext.
    #[derive(Debug, PartialEq, Eq)]
    struct CiphertextCommitment {
        bytes32 handle;
        bytes32 keyId;
        bytes32 digest;
    }

    /// Several of them, signed together.
    #[derive(Debug, PartialEq, Eq)]
    struct CommitmentBatch {
        CiphertextCommitment[] items;
    }

    /// The digest of one part of a key: 0 server key, 1 compact public key, 2 CRS, 3 squashing key.
    #[derive(Debug, PartialEq, Eq)]
    struct KeyDigest {
        uint8 keyType;
        bytes digest;
    }

    /// The registration of a key.
    #[derive(Debug, PartialEq, Eq)]
    struct KeygenVerification {
        uint256 prepKeygenId;
        uint256 keyId;
        KeyDigest[] keyDigests;
        bytes extraData;
    }

    /// What one party saw of one decryption; bit (index − 1) of a bitmap stands for a party.
    #[derive(Debug, PartialEq, Eq)]
    struct DecryptionReceipt {
        bytes32 requestId;
        bytes32 contextId;
        bytes32 epochId;
        bytes32 keyId;
        uint256 arrived;
        uint256 late;
        uint256 wrong;
        uint64 mpcMicros;
    }

    /// A committee and its one successor.
    #[derive(Debug, PartialEq, Eq)]
    struct ContextSuccession {
        bytes32 previous;
        address[] signers;
        uint256 t;
        uint256 threshold;
        bytes32 salt;
    }

    /// The end of an old committee.
    #[derive(Debug, PartialEq, Eq)]
    struct ContextDestruction {
        bytes32 contextId;
        bytes32 destroyed;
    }
}
