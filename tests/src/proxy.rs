//! A wire between two parties that a test cuts and mends.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{cluster::Cluster, parties};

/// Passes bytes on between whoever connects and a target, unless it is cut. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A whole wire to `target`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (whole, watched) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((incoming, _)) = listener.accept().await {
                if *watched.borrow() {
                    tokio::spawn(pass(incoming, target, watched.clone()));
                }
            }
        });
        Ok(Self { address, whole, accepting })
    }

    /// Where to connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections; new ones are closed at once.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// New connections are passed on again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn pass(mut incoming: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    let Ok(mut outgoing) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut incoming, &mut outgoing) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}

/// Puts wires that can be cut between party `from` and each of `to`, which must have greater indices: the party with the
/// smaller index dials. The party is restarted with a manifest that names the wires; its arguments from before come with them.
///
/// # Errors
/// The manifest or the configuration can't be read or written, or the party can't be started.
pub async fn between(cluster: &mut Cluster, from: u32, to: &[u32]) -> Result<(Vec<Proxy>, Vec<String>)> {
    let mut manifest = parties::manifest(cluster)?;
    let mut wires = Vec::new();
    for peer in manifest.parties.iter_mut().filter(|peer| to.contains(&peer.index)) {
        let target = peer.peer_url.trim_start_matches("https://").parse().context("the URL of a peer")?;
        let wire = Proxy::to(target).await?;
        peer.peer_url = format!("https://{}", wire.address());
        wires.push(wire);
    }
    let changed = cluster.path(&format!("manifest-of-party-{from}.json"));
    std::fs::write(&changed, manifest.to_json()?)?;
    let config = std::fs::read_to_string(cluster.path(&format!("party-{from}.toml")))?;
    let whole = cluster.path("manifest.json").display().to_string();
    let cut = cluster.path(&format!("party-{from}-wired.toml"));
    std::fs::write(&cut, config.replace(&whole, &changed.display().to_string()))?;

    let party = cluster.parties.get_mut(from as usize - 1).context("no such party")?;
    let before = party.args().to_vec();
    party.kill();
    party.set_args(vec!["run".into(), "--config".into(), cut.display().to_string()]);
    party.restart()?;
    cluster.heal().await?;
    Ok((wires, before))
}
