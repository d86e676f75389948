//! The party's own keys, made by `kms-node init` and sealed: they never leave this machine.
//!
//! ```text
//! signing-key   "KMSI" ‖ u8 version 1 ‖ secp256k1 scalar (32)
//! tls-root      "KMST" ‖ u8 version 1 ‖ u32 length ‖ certificate (PEM) ‖ private key (PKCS #8 DER)
//! ```

use k256::ecdsa::SigningKey;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use crate::error::SealedError;
use crate::party::TlsRoot;
use crate::sealed::Vault;

/// Name of the sealed signing key.
pub const SIGNING_KEY: &str = "signing-key";
/// Name of the sealed TLS root.
pub const TLS_ROOT: &str = "tls-root";

const SIGNING_HEAD: [u8; 5] = *b"KMSI\x01";
const TLS_HEAD: [u8; 5] = *b"KMST\x01";

/// Makes a signing key and seals it.
///
/// # Errors
/// There is one already, or it can't be written.
pub fn create_signing_key(vault: &Vault) -> Result<SigningKey, SealedError> {
    let mut scalar = Zeroizing::new([0; 32]);
    // Nearly always once: only zero and numbers above the group order are no keys.
    let key = loop {
        OsRng.try_fill_bytes(&mut *scalar).map_err(|e| SealedError::Derivation(e.to_string()))?;
        if let Ok(key) = SigningKey::from_slice(&*scalar) {
            break key;
        }
    };
    let mut object = Zeroizing::new(Vec::with_capacity(SIGNING_HEAD.len() + 32));
    object.extend_from_slice(&SIGNING_HEAD);
    object.extend_from_slice(&*scalar);
    vault.put(SIGNING_KEY, &object)?;
    Ok(key)
}

/// Opens the signing key.
///
/// # Errors
/// Missing, tampered with, or not a signing key.
pub fn load_signing_key(vault: &Vault) -> Result<SigningKey, SealedError> {
    let object = vault.get(SIGNING_KEY)?;
    let scalar = object.strip_prefix(&SIGNING_HEAD).ok_or_else(|| content(SIGNING_KEY, "signing key"))?;
    SigningKey::from_slice(scalar).map_err(|_| content(SIGNING_KEY, "signing key"))
}

/// Seals a new TLS root.
///
/// # Errors
/// There is one already, or it can't be written.
pub fn store_tls_root(vault: &Vault, root: &TlsRoot) -> Result<(), SealedError> {
    let pem = root.certificate_pem.as_bytes();
    let mut object = Zeroizing::new(Vec::with_capacity(TLS_HEAD.len() + 4 + pem.len() + root.key_der.len()));
    object.extend_from_slice(&TLS_HEAD);
    // A certificate of this program has about 600 bytes.
    object.extend_from_slice(&(pem.len() as u32).to_be_bytes());
    object.extend_from_slice(pem);
    object.extend_from_slice(&root.key_der);
    vault.put(TLS_ROOT, &object)
}

/// Opens the TLS root.
///
/// # Errors
/// Missing, tampered with, or not a TLS root.
pub fn load_tls_root(vault: &Vault) -> Result<TlsRoot, SealedError> {
    let object = vault.get(TLS_ROOT)?;
    parse_tls_root(&object).ok_or_else(|| content(TLS_ROOT, "TLS root"))
}

fn parse_tls_root(object: &[u8]) -> Option<TlsRoot> {
    let (length, rest) = object.strip_prefix(&TLS_HEAD)?.split_first_chunk::<4>()?;
    let (pem, key) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let certificate_pem = std::str::from_utf8(pem).ok()?.to_owned();
    Some(TlsRoot { certificate_pem, key_der: Zeroizing::new(key.to_vec()) })
}

fn content(name: &str, what: &'static str) -> SealedError {
    SealedError::Format { path: name.into(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::Cost;

    #[test]
    fn own_keys_come_back_and_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::create(dir.path(), b"insecure test", Cost::INSECURE_TEST).unwrap();
        let key = create_signing_key(&vault).unwrap();
        assert_eq!(load_signing_key(&vault).unwrap(), key);
        assert!(matches!(create_signing_key(&vault), Err(SealedError::Exists(_))));

        let root = TlsRoot { certificate_pem: "pem".into(), key_der: Zeroizing::new(vec![1, 2, 3]) };
        store_tls_root(&vault, &root).unwrap();
        let again = load_tls_root(&vault).unwrap();
        assert_eq!((again.certificate_pem, again.key_der), (root.certificate_pem, root.key_der));
    }

    #[test]
    fn objects_of_another_kind_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::create(dir.path(), b"insecure test", Cost::INSECURE_TEST).unwrap();
        vault.put(SIGNING_KEY, b"KMSI\x02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
        assert!(matches!(load_signing_key(&vault), Err(SealedError::Format { .. })));
        vault.put(TLS_ROOT, b"KMST\x01\xff\xff\xff\xffpem").unwrap();
        assert!(matches!(load_tls_root(&vault), Err(SealedError::Format { .. })));
    }
}
