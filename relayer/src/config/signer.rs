//! Where the key of the account that pays is.

use std::path::PathBuf;

use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::Address;
use kms_chain::rpc::Url;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::tx::{AwsKms, Signer, aws_credentials, check_aws};

/// Where the key is: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// Name of an environment variable that holds the key in hex.
    pub env: Option<String>,
    /// Path of an encrypted keystore.
    pub keystore: Option<PathBuf>,
    /// Path of the file with the keystore's password.
    pub password_file: Option<PathBuf>,
    /// A key that stays in AWS KMS.
    pub aws_kms: Option<AwsKmsConfig>,
}

/// A key in AWS KMS. The credentials come from where AWS's own tools look: `AWS_ACCESS_KEY_ID` and so on, a web identity, or
/// the metadata of the container or the machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsKmsConfig {
    /// Id, ARN or alias of the key.
    pub key_id: String,
    /// Region, such as `eu-central-1`.
    pub region: String,
    /// Endpoint in place of the region's public one.
    pub endpoint: Option<Url>,
    /// The account that the key must be of. Without it, whatever key the service has is used.
    pub address: Option<Address>,
}

impl SignerConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.env, &self.keystore, &self.password_file, &self.aws_kms) {
            (Some(_), None, None, None) | (None, Some(_), Some(_), None) => Ok(()),
            (None, None, None, Some(aws)) => {
                if aws.endpoint.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
                    return Err("signer.aws_kms: endpoint is neither http:// nor https://".into());
                }
                check_aws(&aws.key_id, &aws.region).map_err(|e| format!("signer.aws_kms: {e}"))
            }
            (None, Some(_), None, None) => Err("signer: a keystore needs a password_file".into()),
            _ => Err("signer: give exactly one of env, keystore with password_file, and aws_kms".into()),
        }
    }

    /// The account, as far as it is known without connecting anywhere.
    ///
    /// # Errors
    /// No key there, or not one.
    pub fn account(&self) -> Result<Option<Address>, Error> {
        match &self.aws_kms {
            Some(aws) => Ok(aws.address),
            None => Ok(Some(self.local()?.address())),
        }
    }

    /// Opens the key. One in AWS KMS is looked up.
    ///
    /// # Errors
    /// No key there, or not one, or that of another account.
    pub async fn open(&self) -> Result<Signer, Error> {
        let Some(aws) = &self.aws_kms else { return Ok(Signer::new(self.local()?)) };
        let wrong = |what: String| Error::Config(format!("signer.aws_kms {}: {what}", aws.key_id));
        let credentials = aws_credentials(&aws.region).map_err(|e| wrong(e.to_string()))?;
        let key = AwsKms::connect(&aws.key_id, &aws.region, aws.endpoint.as_ref(), credentials);
        let key = key.await.map_err(|e| wrong(e.to_string()))?;
        let signer = Signer::new(key);
        match aws.address {
            Some(address) if address != signer.address() => {
                Err(wrong(format!("it is the key of {}, not of {address}", signer.address())))
            }
            _ => Ok(signer),
        }
    }

    fn local(&self) -> Result<PrivateKeySigner, Error> {
        match (&self.env, &self.keystore, &self.password_file) {
            (Some(name), _, _) => {
                let key = Zeroizing::new(
                    std::env::var(name).map_err(|_| Error::Config(format!("signer: {name} is not set")))?,
                );
                key.trim().parse().map_err(|_| Error::Config(format!("signer: {name} is not a private key in hex")))
            }
            (None, Some(path), Some(password)) => {
                let password = Zeroizing::new(std::fs::read_to_string(password).map_err(|e| {
                    Error::Config(format!("signer: password file {} can't be read: {e}", password.display()))
                })?);
                PrivateKeySigner::decrypt_keystore(path, password.trim_end_matches(['\r', '\n']))
                    .map_err(|e| Error::Config(format!("signer: keystore {}: {e}", path.display())))
            }
            _ => Err(Error::Config("signer: no key is named".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Web3 Secret Storage Definition.
    const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":
        {"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    #[tokio::test]
    async fn a_key_is_opened_from_the_environment_or_a_keystore() {
        let missing = SignerConfig { env: Some("KMS_TEST_NO_SUCH_KEY".into()), ..Default::default() };
        assert!(missing.open().await.unwrap_err().to_string().contains("is not set"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), KEYSTORE).unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "testpassword\n").unwrap();
        let (keystore, password_file) = (Some(dir.path().join("key")), Some(password.clone()));
        let config = SignerConfig { keystore, password_file, ..Default::default() };
        let address = "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b".parse::<Address>().unwrap();
        assert_eq!(config.account().unwrap(), Some(address));
        assert_eq!(config.open().await.unwrap().address(), address);
        std::fs::write(&password, "wrong").unwrap();
        assert!(config.open().await.is_err());
    }

    #[test]
    fn one_place_of_a_key_is_named() {
        let aws = |key_id: &str, region: &str, endpoint: Option<&str>| AwsKmsConfig {
            key_id: key_id.into(),
            region: region.into(),
            endpoint: endpoint.map(|url| url.parse().unwrap()),
            address: None,
        };
        let good = SignerConfig { aws_kms: Some(aws("alias/relayer", "eu-central-1", None)), ..Default::default() };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.account().unwrap(), None, "nobody is asked before the process runs");
        let env = Some("KEY".to_owned());
        for (config, part) in [
            (SignerConfig::default(), "exactly one"),
            (SignerConfig { env, ..good.clone() }, "exactly one"),
            (SignerConfig { keystore: Some("key".into()), ..Default::default() }, "password_file"),
            (SignerConfig { aws_kms: Some(aws("", "eu-central-1", None)), ..Default::default() }, "key_id"),
            (SignerConfig { aws_kms: Some(aws("k", "evil.example/", None)), ..Default::default() }, "region"),
            (SignerConfig { aws_kms: Some(aws("k", "", None)), ..Default::default() }, "region"),
            (SignerConfig { aws_kms: Some(aws("k", "eu-central-1", Some("ftp://x"))), ..Default::default() }, "http"),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
