//! `kms`: the operator's tool.

use clap::{Parser, Subcommand};
use kms_cli::{client_cert, crs, dealer, decrypt, doctor, keygen, manifest, register_key, status, user_decrypt};

#[derive(Debug, Parser)]
#[command(name = "kms", version, about = "Set up, check and use a decentralised key management service")]
struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join the parties' cards to a manifest, or add a chain to one.
    #[command(subcommand)]
    Manifest(manifest::Command),
    /// Make a client CA and a certificate for a relayer or an operator.
    ClientCert(client_cert::Args),
    /// Make a key by all parties together, watch it come to be, and register it.
    Keygen(keygen::Args),
    /// Put a reference string for input proofs where the parties fetch it.
    Crs(crs::Args),
    /// DEVELOPMENT ONLY: deal key shares. Whoever runs this knew the key.
    Dealer(dealer::DealArgs),
    /// Register a key with the parties' signatures.
    RegisterKey(register_key::Args),
    /// Check a whole deployment and print one table.
    Doctor(doctor::Args),
    /// Show where a request is.
    Status(status::Args),
    /// Ask the parties to decrypt handles that are marked publicly decryptable.
    Decrypt(decrypt::Args),
    /// Read encrypted values that your wallet has a right to; nobody else sees them.
    UserDecrypt(user_decrypt::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("KMS_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let text = match cli.command {
        Command::Manifest(command) => manifest::run(&command, cli.json)?,
        Command::ClientCert(args) => client_cert::run(&args, cli.json)?,
        Command::Keygen(args) => keygen::run(&args, cli.json).await?,
        Command::Crs(args) => crs::run(&args, cli.json)?,
        Command::Dealer(args) => dealer::command(&args, cli.json)?,
        Command::RegisterKey(args) => register_key::run(&args, cli.json).await?,
        Command::Doctor(args) => {
            let report = doctor::run(&args).await?;
            print!("{}", report.render(cli.json)?);
            std::process::exit(i32::from(!report.healthy()));
        }
        Command::Status(args) => status::run(&args, cli.json).await?,
        Command::Decrypt(args) => decrypt::run(&args, cli.json).await?,
        Command::UserDecrypt(args) => user_decrypt::run(&args, cli.json).await?,
    };
    print!("{text}");
    Ok(())
}
