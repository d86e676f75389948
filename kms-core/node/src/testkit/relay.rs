//! A cable between parties that a test can cut and mend.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, as long as it is not cut.
pub(crate) struct Relay {
    whole: watch::Sender<bool>,
}

impl Relay {
    pub(super) fn start(outside: TcpListener, inside: SocketAddr) -> Self {
        let whole = watch::Sender::new(true);
        let state = whole.subscribe();
        tokio::spawn(async move {
            while let Ok((mut dialler, _)) = outside.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut party) = TcpStream::connect(inside).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut dialler, &mut party) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { whole }
    }

    /// Ends all connections and lets no new one through.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}
