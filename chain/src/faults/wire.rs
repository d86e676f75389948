//! A TCP relay that a test can cut, freeze and mend.

use super::local_url;
use crate::rpc::Url;
use std::io;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    Frozen,
}

/// Passes bytes between whoever connects and a port of this machine. Ends when dropped.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.send_replace(State::Cut);
        self.task.abort();
    }
}

impl Wire {
    /// A whole wire to port `target`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State::Whole);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, target, watched.clone()));
            }
        });
        Ok(Self { port, state, task })
    }

    /// Address for HTTP.
    #[must_use]
    pub fn url(&self) -> Url {
        local_url("http", self.port)
    }

    /// Address for a WebSocket.
    #[must_use]
    pub fn ws_url(&self) -> Url {
        local_url("ws", self.port)
    }

    /// Closes all connections, and every new one at once.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Nothing passes any more, but all connections stay open, and new ones are accepted: what a peer that has vanished
    /// looks like. Those connections never pass anything again.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// New connections pass again.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

async fn pass(mut near: TcpStream, target: u16, mut state: watch::Receiver<State>) {
    let relay = async {
        let mut far = TcpStream::connect(("127.0.0.1", target)).await?;
        copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        biased;
        found = state.wait_for(|state| *state != State::Whole) => {
            if !matches!(found.map(|state| *state), Ok(State::Frozen)) {
                return;
            }
        }
        _ = relay => return,
    }
    let _ = state.wait_for(|state| *state == State::Cut).await;
}
