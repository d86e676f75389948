//! `kms client-cert`: a client CA with one certificate, for relayers and operators.

use std::{fs, os::unix::fs::OpenOptionsExt, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Arguments of `kms client-cert`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The client's name, as parties list it.
    #[arg(long)]
    name: String,
    /// Folder for ca.pem (for the parties' configuration), cert.pem and key.pem (for the client). Must hold none of them.
    #[arg(long)]
    out: PathBuf,
}

/// Makes the files and returns what to print.
///
/// # Errors
/// The name is not a DNS label, a file exists already or can't be written.
pub fn run(args: &Args, json: bool) -> Result<String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if args.name.is_empty() || args.name.len() > 63 || !args.name.chars().all(label) {
        bail!("the name must be 1 to 63 of a–z, 0–9 and -");
    }
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::CommonName, format!("{} client CA", args.name));
    let ca_cert = ca.self_signed(&ca_key)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec![args.name.clone()])?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.distinguished_name.push(DnType::CommonName, args.name.as_str());
    let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;

    fs::create_dir_all(&args.out)?;
    // The CA's key is dropped: another certificate means another CA, which an operator sees.
    for (file, text) in [("ca.pem", ca_cert.pem()), ("cert.pem", cert.pem()), ("key.pem", key.serialize_pem())] {
        let path = args.out.join(file);
        let mut handle = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        std::io::Write::write_all(&mut handle, text.as_bytes())?;
    }
    if json {
        return Ok(format!("{}\n", serde_json::json!({ "name": args.name, "folder": args.out })));
    }
    Ok(format!(
        "{dir}: give ca.pem to the parties ([[clients]] name = \"{}\"), keep cert.pem and key.pem\n",
        args.name,
        dir = args.out.display()
    ))
}
